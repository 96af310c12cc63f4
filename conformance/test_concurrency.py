"""Many calls at once, and a revoke in the middle of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from alter_sdk import GrantRevokedError, KeyRevokedError

from harness.world import Key, Secret, World


async def test_sixty_four_requests_at_once_leave_one_event_each(world: World):
    secret = world.secret()
    async with world.vault(url=world.server.url) as app:

        async def one(number: int) -> int:
            answer = await app.request(
                "GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": f"run-{number}"}
            )
            return answer.status_code

        assert await asyncio.gather(*(one(n) for n in range(64))) == [200] * 64
    assert {s.header("authorization") for s in world.corner.seen} == {f"Bearer {secret.value}"}
    expected = {f"run-{n}": 1 for n in range(64)}
    for kind in ("token.released", "call.claimed"):
        assert Counter(e["context"]["run_id"] for e in world.events(kind=kind)) == expected, kind
    assert len({e["id"] for e in world.events()}) == len(world.events())


async def test_revoke_in_the_middle_of_calls(world: World, tmp_path: Path):
    """A call that begins after the revoke has answered gets nothing; events of released calls precede the revoke's."""
    secret = world.secret()
    grant = world.grant(secret)
    revoked = asyncio.Event()
    warm = asyncio.Event()
    late: list[str] = []
    released = 0

    async with world.vault(url=world.server.url) as app:

        async def worker(number: int) -> None:
            nonlocal released
            for turn in range(10_000):
                began_after = revoked.is_set()
                run = f"w{number}-{turn}"
                try:
                    await app.request("GET", world.corner.url(), grant_id=grant, context={"run_id": run})
                except GrantRevokedError:
                    if began_after:
                        return
                    continue
                released += 1
                if began_after:
                    late.append(run)
                if released >= 50:
                    warm.set()

        workers = [asyncio.create_task(worker(n)) for n in range(16)]
        await warm.wait()
        await app.revoke_grant(grant, reason="mid-flight")
        revoked.set()
        await asyncio.gather(*workers)
        # The other grant of the same secret goes on.
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    assert late == []
    events = world.events(grant=grant, kind="token.released")
    assert len(events) >= released >= 50
    lines = [json.loads(line) for line in world.export(tmp_path / "export.jsonl").read_text().splitlines()]
    chains: dict[str, list[tuple[int, str]]] = {}
    for line in lines:
        event = line.get("event", line)
        core = event.get("core", event)
        if line["type"] == "event" and core.get("grant_id") == grant:
            chains.setdefault(event["chain_id"], []).append((event["seq"], core["kind"]))
    for events_of_chain in chains.values():
        kinds = [kind for _, kind in sorted(events_of_chain)]
        if "grant.revoked" in kinds:
            assert "token.released" not in kinds[kinds.index("grant.revoked") :]


async def test_many_keys_and_grants_at_once_do_not_mix(world: World):
    """Each caller gets its own credential, whatever runs beside it."""
    secrets = [world.secret() for _ in range(8)]
    keys = [world.mint() for _ in range(4)]
    corner = world.corner

    async def use(key: Key, secret: Secret) -> None:
        async with world.vault(key, url=world.server.url) as app:
            for _ in range(5):
                answer = await app.request("GET", corner.url(), grant_id=secret.grant_id)
                assert answer.json()["headers"]["authorization"] == f"Bearer {secret.value}"

    await asyncio.gather(*(use(key, secret) for key in keys for secret in secrets))
    per_key = Counter(e["key_id"] for e in world.events(kind="token.released"))
    assert per_key == {key.id: 40 for key in keys}


async def test_revoked_key_in_the_middle_of_calls(world: World):
    secret, key = world.secret(), world.mint()
    revoked = asyncio.Event()
    late = 0
    async with world.vault(key, url=world.server.url) as app:
        calls = 0

        async def worker() -> None:
            nonlocal late, calls
            while True:
                began_after = revoked.is_set()
                try:
                    await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
                except KeyRevokedError:
                    if began_after:
                        return
                    continue
                calls += 1
                late += began_after

        workers = [asyncio.create_task(worker()) for _ in range(8)]
        while calls < 20:
            await asyncio.sleep(0)
        await asyncio.to_thread(world.cli, "keys", "revoke", key.id)
        revoked.set()
        await asyncio.gather(*workers)
    assert late == 0
