"""Cases 97 and 100, and 80 to 85 of the extended list as far as there is no user: who a call is of, and assertions of it,
which the client's own verifier judges."""

from __future__ import annotations

import base64
import datetime
import json
import time

import pytest
from alter_sdk import BackendError, MemoryIsolationError, ReAuthRequiredError, verify_identity_assertion

from harness import http
from harness.world import World

AUDIENCE = "https://memory.example.com"
RESOLVE = "/sdk/identity/resolve"
ASSERT = "/sdk/identity/assert"


def keys(world: World, path: str = "/.well-known/jwks.json") -> dict:
    answer = http.call("GET", world.server.url + path)
    assert (answer.status, answer.header("Cache-Control")) == (200, "public, max-age=300")
    return answer.json()


def verified(world: World, token: str, **changed: object):
    expected = {
        "issuer": world.server.url,
        "audience": AUDIENCE,
        "jwks": keys(world),
        "expected_app_id": world.app_id,
    }
    return verify_identity_assertion(token, **{**expected, **changed})


def claims_of(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_core_97_who_a_call_is_of(world: World):
    async with world.vault(caller="nightly") as app:
        first = await app.resolve_identity()
        second = await app.resolve_identity(include_profile=True)
    assert json.loads(world.exchanges(path=RESOLVE)[0].body) == {"include_profile": False}
    for told in (first, second):
        assert (told.app_id, told.app_user_id, told.agent_id, told.user_status) == (world.app_id, None, None, None)
        assert (list(told.group_ids), told.email, told.display_name) == ([], None, None)
    # The id that the answer's header gave the caller.
    assert second.actor_id == world.exchanges(path=RESOLVE)[0].answer.header("X-Alter-Actor-ID")
    assert [event["outcome"] for event in world.events(kind="identity.resolved")] == ["allowed", "allowed"]


async def test_core_97_a_token_of_nobodys(world: World):
    async with world.vault() as app:
        with pytest.raises(ReAuthRequiredError):
            await app.resolve_identity(user_token="a.b.c")
    answer = world.send(world.signed("POST", RESOLVE, {"include_profile": False, "app_user_id": world.app_id}))
    assert (answer.status, answer.error) == (400, "invalid_request")


async def test_core_100_an_assertion_of_the_app_is_verified_by_the_client(world: World):
    async with world.vault() as app:
        made = await app.assert_identity(audience=AUDIENCE)
        short = await app.assert_identity(audience=AUDIENCE, ttl_seconds=10)
    assert json.loads(world.exchanges(path=ASSERT)[0].body) == {"include_profile": False, "audience": AUDIENCE}
    told = verified(world, made.token)
    assert (told.app_id, told.app_user_id, told.agent_id, told.user_status) == (world.app_id, None, None, None)
    assert verified(world, made.token, jwks=keys(world, "/.well-known/alter-identity-jwks.json")).app_id == world.app_id
    claims = claims_of(made.token)
    assert claims["exp"] - claims["iat"] == 120
    assert made.expires_at == datetime.datetime.fromtimestamp(claims["exp"], datetime.UTC)
    assert claims_of(short.token)["exp"] - claims_of(short.token)["iat"] == 10
    assert abs(claims["iat"] - time.time()) < 30
    events = world.events(kind="identity.asserted")
    assert [event["assertion_id"] for event in events] == [claims["jti"], claims_of(short.token)["jti"]]


async def test_ext_85_the_client_refuses_what_is_not_as_it_expects(world: World):
    async with world.vault() as app:
        token = (await app.assert_identity(audience=AUDIENCE)).token
    tampered = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    other = {"keys": [{**keys(world)["keys"][0], "kid": "other"}]}
    for changed, reason in (
        ({"audience": "https://other.example.com"}, "claims"),
        ({"issuer": "https://other.example.com"}, "claims"),
        ({"expected_app_id": world.other_app().app_id}, "binding"),
        ({"jwks": other}, "key"),
    ):
        with pytest.raises(MemoryIsolationError) as refused:
            verified(world, token, **changed)
        assert refused.value.details["reason"] == reason
    with pytest.raises(MemoryIsolationError) as refused:
        verified(world, tampered)
    assert refused.value.details["reason"] == "signature"


async def test_audiences_and_lives_out_of_bounds(world: World):
    async with world.vault() as app:
        with pytest.raises(BackendError) as refused:
            await app.assert_identity(audience="https:")
    assert (refused.value.status_code, refused.value.details["error"]) == (422, "invalid_audience")
    for body, code in (
        ({"audience": "memory"}, "invalid_audience"),
        ({"audience": "https://a.example/" + "x" * 495}, "invalid_audience"),
        ({"audience": AUDIENCE, "ttl_seconds": 9}, "invalid_value"),
        ({"audience": AUDIENCE, "ttl_seconds": 301}, "invalid_value"),
    ):
        answer = world.send(world.signed("POST", ASSERT, {"include_profile": False, **body}))
        assert (answer.status, answer.error) == (422, code)


async def test_keys_rotate_under_tokens_that_are_about(private_world: World):
    world = private_world
    async with world.vault() as app:
        before = (await app.assert_identity(audience=AUDIENCE)).token
        world.cli("identity-keys", "rotate")
        ahead = (await app.assert_identity(audience=AUDIENCE)).token
        assert len(keys(world)["keys"]) == 2
        assert verified(world, before).app_id == verified(world, ahead).app_id == world.app_id
        world.cli("identity-keys", "rotate", "--leaked")
        after = (await app.assert_identity(audience=AUDIENCE)).token
    assert [key["status"] for key in world.cli("identity-keys", "list")["items"]] == ["signs"]
    assert verified(world, after).app_id == world.app_id
    with pytest.raises(MemoryIsolationError):
        verified(world, before)
