"""The oldest client that is promised in full (0.21.0): what every application does, unchanged."""

from __future__ import annotations

import pytest
from alter_sdk import AlterSDKError, App
from alter_sdk.exceptions import (
    BackendError,
    GrantNotFoundError,
    GrantRevokedError,
    InsufficientScopeError,
    PolicyViolationError,
    ProviderAPIError,
)

from harness.world import World
from signing import invent_key

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


async def test_request_and_its_audit_events(world: World):
    secret = world.secret()
    async with world.vault() as app:
        assert isinstance(app, App)
        answer = await app.request(
            "POST",
            world.corner.url("echo", "/v1/{item}"),
            grant_id=secret.grant_id,
            path_params={"item": "a b"},
            json={"a": 1},
            reason="why",
            context={"user_id": "u1"},
        )
    assert answer.json()["headers"]["authorization"] == f"Bearer {secret.value}"
    assert world.exchanges()[0].header("User-Agent") == "alter-sdk-python/0.21.0"
    for kind in ("token.released", "call.claimed"):
        (event,) = world.events(kind=kind)
        assert (event["reason"], event["context"]) == ("why", {"user_id": "u1"})


async def test_custom_header_and_injections(world: World):
    secret = world.secret(
        credential_type="header_key",
        injection_header="X-Key",
        injection_format="Key {token}",
        injections=[{"target": "query_param", "key": "k", "value_source": "token"}],
    )
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    (seen,) = world.corner.seen
    assert seen.header("x-key") == f"Key {secret.value}"
    assert dict(seen.query)["k"] == secret.value


async def test_list_and_revoke(world: World):
    secret = world.secret()
    grant = world.grant(secret, label="smoke")
    async with world.vault() as app:
        page = await app.list_grants()
        assert {g.grant_id for g in page.grants} == {secret.grant_id, grant}
        assert (await app.list_grants(label="smoke")).total == 1
        done = await app.revoke_grant(grant, reason="over")
        assert (done.success, done.grant_id) == (True, grant)
        with pytest.raises(GrantRevokedError) as error:
            await app.request("GET", world.corner.url(), grant_id=grant)
        assert error.value.grant_id == grant
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    assert len(world.corner.seen) == 1


async def test_actor_id_is_echoed_and_verifies(world: World):
    secret = world.secret()
    async with world.vault(caller="worker") as app:
        for _ in range(3):
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": "r"})
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, caller="once")
    sent = world.exchanges(path="/sdk/token")
    assert {e.answer.status for e in sent} == {200}
    ids = [e.header("X-Alter-Actor-ID") for e in sent]
    assert ids[0] is None and ids[1] == ids[2] is not None and ids[3] is None


async def test_constraints(world: World):
    secret = world.secret()
    async with world.vault() as app:
        narrow = app.with_constraints(scopes=["grants:read"])
        await narrow.list_grants()
        with pytest.raises(InsufficientScopeError):
            await narrow.request("GET", world.corner.url(), grant_id=secret.grant_id)


async def test_refusals(world: World):
    secret = world.secret(hosts=["api.example.com"])
    async with world.vault() as app:
        with pytest.raises(GrantNotFoundError):
            await app.request("GET", world.corner.url(), grant_id=UNKNOWN)
        with pytest.raises(BackendError) as blocked:
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
        # This client does not know the class for it yet.
        assert blocked.value.details["error"] == "blocked_destination"
        with pytest.raises(BackendError) as unbuilt:
            await app.proxy_request("GET", "https://api.example.com/", grant_id=secret.grant_id)
        assert "501" in repr(unbuilt.value.details)
    async with world.vault(world.mint(cidr_allowlist=["10.0.0.0/8"])) as app:
        with pytest.raises(PolicyViolationError):
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    async with world.vault(invent_key()) as app:
        # Nor those of the key's codes outside the agents API.
        with pytest.raises(BackendError) as unknown:
            await app.list_grants()
        assert unknown.value.details["error"] == "invalid_key"


async def test_provider_errors(world: World):
    secret = world.secret()
    async with world.vault() as app:
        for status in (401, 403, 500):
            with pytest.raises(ProviderAPIError):
                await app.request("GET", world.corner.url("status", f"/{status}"), grant_id=secret.grant_id)
        with pytest.raises(AlterSDKError):
            await app.request("GET", world.corner.url("challenge", "/403"), grant_id=secret.grant_id)
    (report,) = world.exchanges(path=f"/sdk/grants/{secret.grant_id}/report-scope-mismatch")
    assert report.answer.status == 204
