"""The server is killed, starved of disk, and cut off from its database: nothing that was answered is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alter_sdk import AlterSDKError, BackendError

from harness import http
from harness.server import wait_until
from harness.world import World


async def load(world: World, grant: str, answered: set[str], enough: int, prefix: str) -> None:
    """Calls from sixteen workers; `answered` collects the runs whose credential arrived, until the server is gone."""
    reached = asyncio.Event()
    async with world.vault(url=world.server.url, timeout=10) as app:

        async def worker(number: int) -> None:
            for turn in range(100_000):
                run = f"{prefix}-{number}-{turn}"
                try:
                    await app.request("GET", world.corner.url(), grant_id=grant, context={"run_id": run})
                except AlterSDKError:
                    return
                answered.add(run)
                if len(answered) >= enough:
                    reached.set()

        workers = [asyncio.create_task(worker(n)) for n in range(16)]
        await asyncio.wait_for(reached.wait(), 60)
        await asyncio.to_thread(world.server.kill)
        await asyncio.gather(*workers)


async def test_every_answered_call_survives_kill_9(private_world: World, tmp_path: Path):
    world = private_world
    grant = world.secret().grant_id
    answered: set[str] = set()
    for round_number in range(2):
        await load(world, grant, answered, 150 * (round_number + 1), f"r{round_number}")
        world.server.restart()
        released = [e["context"]["run_id"] for e in world.events(kind="token.released")]
        assert len(released) == len(set(released))
        assert answered <= set(released)
    verdict = world.server.verify(world.export(tmp_path / "export.jsonl"))
    assert verdict["ok"], verdict
    assert verdict["events"] == len(world.events())


async def test_revoke_survives_kill_9(private_world: World):
    world = private_world
    secret = world.secret()
    grant, key = world.grant(secret), world.mint()
    world.cli("keys", "revoke", key.id)
    world.revoke(grant)
    world.server.kill()
    world.server.restart()
    assert world.send(world.token_request(grant)).error == "grant_revoked"
    assert world.send(world.token_request(secret.grant_id, key=key)).error == "key_revoked"
    assert world.send(world.token_request(secret.grant_id)).status == 200


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_core_22_nonces_outlive_the_process(private_world: World, end: str):
    """For every call that released, refused or changed something."""
    world = private_world
    secret = world.secret()
    grant = world.grant(secret)
    report = {"grant_id": grant, "method": "GET", "url": "https://x.example/", "response_status": 200}
    requests = [
        world.token_request(secret.grant_id),
        world.signed("POST", f"/sdk/managed-secrets/{secret.id}/grants", {"principal": {"type": "system"}}),
        world.signed("POST", "/sdk/oauth/audit/api-call", report),
        world.signed("POST", f"/sdk/oauth/grants/{grant}/revoke", {}),
    ]
    for request in requests:
        assert world.send(request).status < 300
    if end == "stop":
        assert world.server.stop() == 0
    else:
        world.server.kill()
    world.server.restart()
    before = len(world.events())
    for request in requests:
        answer = world.send(request)
        assert (answer.status, answer.error) == (401, "nonce_replayed"), answer
    assert len(world.events()) <= before + 1  # at most one summary of failed authentications
    assert len(world.events(kind="token.released")) == 1
    assert world.send(world.token_request(secret.grant_id)).status == 200


def outage(world: World) -> tuple[Callable[[], None], Callable[[], None]]:
    """How to take the store away from the server, and how to give it back."""
    server = world.server
    if server.database:
        return server.database.refuse_connections, server.database.allow_connections
    # No file may be written beyond its first page.
    return lambda: server.limit_files(4096), lambda: server.limit_files(None)


async def test_core_62_nothing_is_released_while_events_cannot_be_written(private_world: World, tmp_path: Path):
    """Full disk, or no database: 503 with Retry-After, nothing leaves, and it goes on by itself afterwards."""
    world = private_world
    secret = world.secret()
    take_away, give_back = outage(world)
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": "before"})
        take_away()
        for _ in range(3):
            with pytest.raises(BackendError) as error:
                await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": "during"})
            assert error.value.status_code == 503, error.value.details
            assert error.value.details["error"] in ("storage_unavailable", "audit_unavailable", "busy")
            assert error.value.details["retry_after_seconds"] >= 1
        assert len(world.corner.seen) == 1
        give_back()
        wait_until(lambda: world.send(world.token_request(secret.grant_id)).status == 200, what="recovery")
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": "after"})
    runs = [e.get("context", {}).get("run_id") for e in world.events(kind="token.released")]
    assert runs.count("before") == 1 and runs.count("after") == 1 and "during" not in runs
    for exchange in world.exchanges(path="/sdk/token"):
        assert exchange.answer.status in (200, 503)
        assert (exchange.answer.status == 200) == (b"access_token" in exchange.answer.body)
    assert world.server.verify(world.export(tmp_path / "export.jsonl"))["ok"]


async def test_graceful_stop_answers_what_is_under_way(private_world: World):
    world = private_world
    secret = world.secret()
    async with world.vault(url=world.server.url) as app:
        outcomes: list[str] = []

        async def one(number: int) -> None:
            try:
                await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": f"s{number}"})
                outcomes.append(f"s{number}")
            except AlterSDKError:
                pass

        calls = [asyncio.create_task(one(n)) for n in range(64)]
        while not outcomes:
            await asyncio.sleep(0)
        assert await asyncio.to_thread(world.server.stop) == 0
        await asyncio.gather(*calls)
    world.server.restart()
    released = {e["context"]["run_id"] for e in world.events(kind="token.released")}
    assert set(outcomes) <= released


def test_exported_audit_is_verified_offline_and_every_edit_is_found(private_world: World, tmp_path: Path):
    world = private_world
    secret = world.secret()
    for _ in range(5):
        assert world.send(world.token_request(secret.grant_id)).status == 200
    export = world.export(tmp_path / "export.jsonl")
    good = world.server.verify(export)
    assert good["ok"] and good["events"] >= 6 and good["problems"] == []
    lines = export.read_text().splitlines(keepends=True)
    kinds = [json.loads(line)["type"] for line in lines]
    assert kinds[0] == "header" and kinds[-1] == "footer" and "checkpoint" in kinds
    events = [i for i, kind in enumerate(kinds) if kind == "event"]
    first, second = [i for i in events if '"token.released"' in lines[i]][:2]

    def edited(number: int, old: str, new: str) -> list[str]:
        assert old in lines[number], lines[number]
        return [*lines[:number], lines[number].replace(old, new), *lines[number + 1 :]]

    tampered = {
        "edited": edited(first, secret.grant_id, secret.grant_id[:-1] + ("0" if secret.grant_id[-1] != "0" else "1")),
        "removed": [*lines[:first], *lines[first + 1 :]],
        "swapped": [*lines[:first], lines[second], lines[first], *lines[second + 1 :]],
        "doubled": [*lines[:first], lines[first], *lines[first:]],
        "tail cut": lines[: events[-1]],
        "footer cut": lines[:-1],
        "empty": [],
    }
    for name, text in tampered.items():
        path = tmp_path / f"{name.replace(' ', '-')}.jsonl"
        path.write_text("".join(text))
        verdict = world.server.verify(path)
        assert not verdict["ok"], name
        assert verdict["problems"] and all({"line", "what"} <= p.keys() for p in verdict["problems"]), name


def test_verifier_can_be_told_whom_to_trust(private_world: World, tmp_path: Path):
    world = private_world
    grant = world.secret().grant_id
    assert world.send(world.token_request(grant)).status == 200
    first = world.export(tmp_path / "first.jsonl")
    assert world.send(world.token_request(grant)).status == 200
    export = world.export(tmp_path / "second.jsonl")
    lines = first.read_text().splitlines()
    (key,) = json.loads(lines[0])["keys"]
    kept = next(line for line in reversed(lines) if json.loads(line)["type"] == "checkpoint")
    (tmp_path / "kept.json").write_text(kept)
    assert world.server.verify(export, "--trust", json.dumps(key))["ok"]
    assert world.server.verify(export, "--checkpoint", str(tmp_path / "kept.json"))["ok"]
    stranger = {**key, "x": ("A" if key["x"][0] != "A" else "B") + key["x"][1:]}
    assert not world.server.verify(export, "--trust", json.dumps(stranger))["ok"]
    # Another install's checkpoint is not in this past.
    body = json.loads(kept)
    body["body"]["n"] += 1000
    (tmp_path / "kept.json").write_text(json.dumps(body))
    assert not world.server.verify(export, "--checkpoint", str(tmp_path / "kept.json"))["ok"]


def test_stop_does_not_wait_for_idle_callers(private_world: World):
    world = private_world
    with http.connect(world.server.url) as idle:
        idle.sendall(world.signed("GET", "/sdk/scopes").wire())
        http.read_answer(idle)
        began = time.monotonic()
        assert world.server.stop() == 0
        assert time.monotonic() - began < 5
