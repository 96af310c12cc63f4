"""Cases 12 to 25: signing, identity headers and actor ids, through the client and with the independent signer."""

from __future__ import annotations

import re
import time

import pytest
from alter_sdk import AlterSDKError, BackendError, InsufficientScopeError, InvalidKeyError

from harness.world import World
from signing import invent_key

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def test_core_12_plain_call_verifies(world: World):
    async with world.vault() as app:
        page = await app.list_grants()
    assert (page.total, page.limit, page.offset, page.has_more) == (0, 100, 0, False)
    sent = world.exchanges(path="/sdk/grants/list")[0]
    assert sent.body == b'{"limit":100,"offset":0}'
    # The same request from the independent signer.
    answer = world.send(world.signed("POST", "/sdk/grants/list", {"limit": 100, "offset": 0}))
    assert (answer.status, answer.json()["total"]) == (200, 0)


async def test_core_13_encoded_path_and_sorted_query_verify(world: World):
    """The route is not built yet; a 501 behind authentication shows that the signature verified."""
    async with world.vault() as app:
        with pytest.raises(BackendError) as error:
            await app.provider_specs.list_operations("oauth", "a/b c", limit=5, offset=0, search="x y~*é/")
    assert error.value.status_code == 501
    sent = world.exchanges()[0].target
    assert sent == "/sdk/provider-specs/oauth/a%2Fb%20c/operations?limit=5&offset=0&search=x+y~%2A%C3%A9%2F"
    assert world.send(world.signed("GET", sent)).status == 501
    reordered = sent.replace("limit=5&offset=0", "offset=0&limit=5")
    assert world.send(world.signed("GET", reordered, signed_target=sent)).status == 501
    for other in ("limit=6", "limit=5&limit=5"):
        tampered = world.signed("GET", sent.replace("limit=5", other), signed_target=sent)
        assert world.send(tampered).error == "signature_invalid"


async def test_core_14_constraints_rule_caller_and_context_verify(world: World):
    secret = world.secret()
    async with world.vault(caller="my-agent", caller_type="agent") as app:
        narrow = app.with_constraints(scopes=["grants:read", "tokens:retrieve"])
        await narrow.list_grants()
        answer = await narrow.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"run_id": "é1"})
        assert answer.status_code == 200
    sent = world.exchanges(path="/sdk/token")[0]
    assert sent.header("X-Alter-Scope-Constraints") == "grants:read,tokens:retrieve"
    assert (sent.header("X-Alter-Caller"), sent.header("X-Alter-Caller-Type")) == ("my-agent", "agent")
    assert sent.header("X-Alter-Context") == '{"run_id":"\\u00e91"}'
    assert sent.header("X-Alter-Signature-V2") == sent.header("X-Alter-Signature")


async def test_core_14_request_rule_is_verified_and_never_ignored(world: World):
    """Rules are not built yet: a call that carries one must not release anything."""
    secret = world.secret()
    async with world.vault() as app:
        ruled = app.with_constraints(rule={"rule_type": "json_match", "rule_body": {"when": {}, "effect": "deny"}})
        with pytest.raises(BackendError) as error:
            await ruled.request("GET", world.corner.url(), grant_id=secret.grant_id)
    assert error.value.status_code in (400, 403, 501), error.value.details
    assert world.corner.seen == []
    sent = world.exchanges(path="/sdk/token")[0]
    # It verified: with any other rule the signature does not.
    other = world.token_request(secret.grant_id, rule=sent.header("X-Alter-Request-Rule")).set(
        "X-Alter-Request-Rule", "eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0"
    )
    assert world.send(other).error == "signature_invalid"


@pytest.mark.parametrize("rule", ["!!!", "bm90IGpzb24", "e30", "eyJydWxlX3R5cGUiOjF9", "x" * 4097])
def test_core_14_malformed_request_rule(world: World, rule: str):
    answer = world.send(world.token_request(world.secret().grant_id, rule=rule))
    assert (answer.status, answer.error) == (400, "invalid_request_rule")


async def test_core_14_constraints_narrow_and_never_widen(world: World):
    key = world.mint(["tokens:retrieve", "grants:read"])
    secret = world.secret()
    async with world.vault(key) as app:
        narrow = app.with_constraints(scopes=["grants:read"])
        await narrow.list_grants()
        with pytest.raises(InsufficientScopeError) as short:
            await narrow.request("GET", world.corner.url(), grant_id=secret.grant_id)
        assert short.value.missing == ["tokens:retrieve"]
        assert short.value.granted == ["grants:read"]
        with pytest.raises(BackendError) as wide:
            await app.with_constraints(scopes=["grants:read", "grants:write"]).list_grants()
    assert (wide.value.status_code, wide.value.details["error"]) == (400, "constraint_not_narrowing")
    assert world.corner.seen == []


def test_core_14_constraints_to_one_grant_and_malformed_ones(world: World):
    secret = world.secret()
    other = world.grant(secret)
    one = f"tokens:retrieve:{secret.grant_id}"
    assert world.send(world.token_request(secret.grant_id, constraints=one)).status == 200
    assert world.send(world.token_request(other, constraints=one)).error == "insufficient_scope"
    for malformed in ("tokens:retrieve,", ",", "tokens:retrieve, grants:read", "*", "x", "x:y", "tokens:*", "a" * 5000):
        answer = world.send(world.token_request(secret.grant_id, constraints=malformed))
        assert (answer.status, answer.error) == (400, "constraint_not_narrowing"), malformed


async def test_core_15_no_identity_header_no_second_signature(world: World):
    async with world.vault() as app:
        await app.list_grants()
    sent = world.exchanges()[0]
    assert sent.header("X-Alter-Signature-V2") is None
    assert sent.answer.status == 200
    assert sent.answer.header("X-Alter-Actor-ID") is None


async def test_core_16_actor_id_is_echoed_signed(world: World):
    async with world.vault(caller="billing-service") as app:
        await app.list_grants()
        actor_id = app.actor_id
        assert CANONICAL_UUID.fullmatch(actor_id)
        await app.list_grants()
        await app.list_grants()
    first, *later = world.exchanges()
    assert first.header("X-Alter-Actor-ID") is None
    assert first.answer.header("X-Alter-Actor-ID") == actor_id
    for exchange in later:
        assert exchange.header("X-Alter-Actor-ID") == actor_id
        assert exchange.header("X-Alter-Signature-V2") == exchange.header("X-Alter-Signature")
        assert exchange.answer.status == 200


async def test_core_17_one_actor_id_per_caller_label_and_type(world: World):
    """So a client never meets a second id, which it would ignore."""
    seen = {}
    for caller, kind in (("a", "service"), ("a", "agent"), ("b", "service"), ("A", "service")):
        ids = set()
        for _ in range(2):
            async with world.vault(world.mint(), caller=caller, caller_type=kind) as app:
                await app.list_grants()
                ids.add(app.actor_id)
        assert len(ids) == 1
        seen[caller, kind] = ids.pop()
    assert len(set(seen.values())) == 4
    other = world.other_app()
    async with other.vault(caller="a") as app:
        await app.list_grants()
        assert app.actor_id not in seen.values()


async def test_core_17_actor_id_on_an_error_is_the_same(world: World):
    async with world.vault(caller="first-call-fails") as app:
        with pytest.raises(BackendError):
            await app.request("GET", "https://example.com/", grant_id="0198c0de-0000-7000-8000-000000000000")
        failed = world.exchanges()[0].answer.header("X-Alter-Actor-ID")
        await app.list_grants()
        assert failed in (None, app.actor_id)


async def test_core_17_forged_actor_id_is_no_attribution(world: World):
    """A signed actor id that this app never gave out may be refused or ignored, but it stays out of the audit log."""
    forged = "0198c0de-1111-7111-8111-111111111111"
    secret = world.secret()
    request = world.token_request(secret.grant_id, caller="real", caller_type="service", actor_id=forged)
    answer = world.send(request)
    assert answer.status in (200, 400, 401, 403), answer
    assert answer.header("X-Alter-Actor-ID") != forged
    assert forged not in repr(world.events())


async def test_core_18_caller_of_one_call_overrides(world: World):
    secret = world.secret()
    async with world.vault(caller="base") as app:
        await app.list_grants()
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, caller="once")
    sent = world.exchanges(path="/sdk/token")[0]
    assert sent.header("X-Alter-Caller") == "once"
    assert sent.header("X-Alter-Actor-ID") is None
    assert sent.answer.status == 200
    assert [e["caller"] for e in world.events(kind="token.released")] == ["once"]


async def test_core_19_path_id_is_decoded_once(world: World):
    async with world.vault() as app:
        with pytest.raises(AlterSDKError) as error:
            await app.agents.get("a b/c%2F")
    sent = world.exchanges()[0]
    assert sent.target == "/sdk/agents/a%20b%2Fc%252F"
    assert sent.answer.status == 501, error.value
    once = world.signed("GET", sent.target)
    assert once.text_to_sign().splitlines()[1] == "/sdk/agents/a b/c%2F"
    twice = world.signed("GET", sent.target, signed_target="/sdk/agents/a%20b%2Fc%2F")
    assert world.send(twice).error == "signature_invalid"


async def test_core_20_delete_without_body_verifies(world: World):
    grant = world.secret().grant_id
    async with world.vault() as app:
        with pytest.raises(BackendError) as error:
            await app.revoke_delegation(grant, "0198c0de-0000-7000-8000-000000000000")
    assert error.value.status_code == 501
    sent = world.exchanges()[0]
    assert (sent.method, sent.body, sent.header("content-length")) == ("DELETE", b"", None)
    assert sent.header("X-Alter-Content-SHA256").startswith("e3b0c44298fc1c14")
    assert sent.answer.error == "feature_unavailable"


async def test_core_21_body_altered_in_flight(world: World):
    key = world.key
    world.tap.edit[key.api_key] = lambda request: request.replace(b'"limit":100', b'"limit":101')
    async with world.vault() as app:
        with pytest.raises(BackendError) as error:
            await app.list_grants()
    assert type(error.value) is BackendError
    assert (error.value.status_code, error.value.details["error"]) == (401, "content_hash_mismatch")


async def test_core_23_clock_ten_minutes_off(world: World, monkeypatch: pytest.MonkeyPatch):
    real = time.time
    for offset in (-600, 600):
        monkeypatch.setattr(time, "time", lambda offset=offset: real() + offset)
        async with world.vault() as app:
            with pytest.raises(BackendError) as error:
                await app.list_grants()
        assert type(error.value) is BackendError
        assert (error.value.status_code, error.value.details["error"]) == (401, "timestamp_out_of_range")


async def test_core_25_unknown_key(world: World):
    async with world.vault(invent_key()) as app:
        with pytest.raises(InvalidKeyError) as error:
            await app.list_grants()
    assert (error.value.status_code, error.value.details["error"]) == (401, "invalid_key")


@pytest.mark.parametrize("kind", ["pk", "ak", "dk"])
async def test_core_25_well_formed_keys_that_were_never_minted(world: World, kind: str):
    async with world.vault(invent_key(kind)) as app:
        with pytest.raises(InvalidKeyError):
            await app.list_grants()


async def test_core_25_legacy_key_is_unknown(world: World):
    async with world.vault("alter_key_" + "aB3-_xyz90" * 4) as app:
        with pytest.raises(InvalidKeyError) as error:
            await app.list_grants()
    assert isinstance(error.value.hint, str | None)


async def test_context_reaches_the_audit_event_and_is_bounded_like_the_clients(world: World):
    secret = world.secret()
    context = {f"k{i}": "v" * 100 for i in range(19)} | {"user_id": "ü" * 10}
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context=context)
    assert [e["context"] for e in world.events(kind="token.released")] == [context]
    assert len(world.events(context=f"user_id={'ü' * 10}", kind="token.released")) == 1
    assert world.events(context="user_id=nobody") == []


async def test_clients_before_0_21_get_no_actor_id(world: World):
    """They would echo it without signing it and fail from the second call on."""
    for agent, expected in (
        ("alter-sdk-python/0.20.1", False),
        ("alter-sdk-python/0.14.0", False),
        ("alter-sdk-python/0.21.0", True),
        ("alter-sdk-python/0.29.0", True),
        ("alter-sdk-python/1.0.0", True),
    ):
        request = world.signed("POST", "/sdk/grants/list", {}, caller="old", caller_type="service", user_agent=agent)
        answer = world.send(request)
        assert answer.status == 200, answer
        assert (answer.header("X-Alter-Actor-ID") is not None) is expected, agent


async def test_unsigned_identity_is_refused_unless_the_key_allows_it(world: World):
    """What clients before 0.21 send: identity headers that the signature does not cover, and no second signature."""
    secret = world.secret()

    def old(key: object, **identity: str) -> object:
        request = world.token_request(secret.grant_id, key=key, user_agent="alter-sdk-python/0.20.1")
        for name, value in identity.items():
            request.add(name.replace("_", "-"), value)
        return world.send(request)

    strict, lenient = world.mint(), world.mint(allow_unsigned_identity=True)
    for identity in ({"X_Alter_Context": '{"user_id":"u"}'}, {"X_Alter_Caller": "x", "X_Alter_Caller_Type": "service"}):
        assert old(strict, **identity).error == "signature_invalid"
        assert old(lenient, **identity).status == 200
    # A caller's UUID is honoured or refused, never ignored.
    unknown = old(lenient, X_Alter_Caller="0198c0de-0000-7000-8000-000000000000", X_Alter_Caller_Type="agent")
    assert (unknown.status, unknown.error) == (404, "caller_agent_unresolved")
    marks = [e.get("identity") for e in world.events(key=lenient.id, kind="token.released")]
    assert marks == ["unsigned", "unsigned"]
    # A signed identity still has to be right: the opt-in is for requests without the second signature.
    signed = world.token_request(secret.grant_id, key=lenient, context='{"user_id":"u"}')
    assert world.send(signed.set("X-Alter-Context", '{"user_id":"v"}')).error == "signature_invalid"
