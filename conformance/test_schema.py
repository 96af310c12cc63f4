"""The client facts: cases in which a server would have to misbehave.

The schemas judge every answer the client gets in this whole suite (fixture `world`). Here they are shown to notice each
misbehaviour that the client refuses, and the server is shown not to store what would lead to one.
"""

from __future__ import annotations

import copy
import json

import pytest

from harness import canary, schema
from harness.http import Answer
from harness.world import ApiError, World

GRANT = "0198c0de-0000-7000-8000-000000000000"
TOKEN = {
    "access_token": "t",
    "grant_id": GRANT,
    "provider_id": "stripe",
    "token_type": "Bearer",
    "expires_in": None,
    "expires_at": None,
    "scopes": [],
    "token_generation": GRANT,
    "scope_mismatch": False,
    "injection_header": "Authorization",
    "injection_format": "Bearer {token}",
    "additional_credentials": {"app": "x"},
    "additional_injections": [{"target": "header", "key": "X-App", "value_source": "additional_credentials.app"}],
}
ITEM = {
    "grant_kind": "managed_secret",
    "grant_id": GRANT,
    "managed_secret_id": GRANT,
    "managed_secret_slug": "stripe",
    "managed_secret_name": "Stripe",
    "status": "active",
    "created_at": "2024-01-01T00:00:00Z",
    "principal_type": "system",
}
PAGE = {"grants": [ITEM], "total": 1, "limit": 100, "offset": 0, "has_more": False}
REVOKED = {"success": True, "message": "Revoked.", "grant_id": GRANT, "revoked_at": "2024-01-01T00:00:00.5Z"}

INJECTION = TOKEN["additional_injections"][0]
BAD_TOKENS = {
    "28 provider_id null": {"provider_id": None},
    "28 scopes null": {"scopes": None},
    "28 token_type null": {"token_type": None},
    "28 scope_mismatch null": {"scope_mismatch": None},
    "28 injection_header null": {"injection_header": None},
    "28 injection_format null": {"injection_format": None},
    "29 fractional expires_in": {"expires_in": 3600.0},
    "29 boolean expires_in": {"expires_in": True},
    "29 negative expires_in": {"expires_in": -1},
    "29 expires_at without offset": {"expires_at": "2024-01-01T00:00:00"},
    "29 upper-case grant_id": {"grant_id": GRANT.upper()},
    "29 upper-case token_generation": {"token_generation": GRANT.upper()},
    "31 injection with an extra key": {"additional_injections": [{**INJECTION, "note": ""}]},
    "31 injection of a forbidden header": {"additional_injections": [{**INJECTION, "key": "Cookie"}]},
    "31 injection of an absent credential": {
        "additional_injections": [{**INJECTION, "value_source": "additional_credentials.nothing"}]
    },
    "31 eleven injections": {"additional_injections": [INJECTION] * 11},
    "31 header Cookie": {"injection_header": "Cookie"},
    "31 header with a blank": {"injection_header": "X Key"},
    "31 long header": {"injection_header": "X" * 61},
    "31 format without token": {"injection_format": "Bearer"},
    "31 format with a line break": {"injection_format": "{token}\n"},
    "31 long format": {"injection_format": "{token}" + "x" * 194},
    "31 blank extra credential": {"additional_credentials": {"app": " "}},
    "31 long extra credential": {"additional_credentials": {"app": "x" * 8193}},
    "31 eleven extra credentials": {"additional_credentials": {f"k{i}": "v" for i in range(11)} | {"app": "x"}},
    "empty access_token": {"access_token": ""},
    "access_token with a line break": {"access_token": "a\r\nb"},
    "provider_id with blanks": {"provider_id": " x"},
    "blank scope": {"scopes": [" "]},
    "102 SigV4 without secret key": {"injection_format": "AWS4-HMAC-SHA256", "additional_injections": None},
    "an unknown field": {"surprise": 1},
}
BAD_ITEMS = {
    "79 unknown kind": {"grant_kind": "other"},
    "79 unknown status": {"status": "odd"},
    "79 null slug": {"managed_secret_slug": None},
    "79 scope_constraint of another type": {"scope_constraint": "x"},
    "79 time without zone": {"created_at": "2024-01-01T00:00:00"},
    "79 unknown access": {"access_via": "magic"},
}
BAD_REVOKED = {
    "81 revoked_at null": {"revoked_at": None},
    "81 empty message": {"message": ""},
    "81 success as text": {"success": "true"},
}


def ok(value: object, status: int = 200, **headers: str) -> Answer:
    pairs = [("Content-Type", "application/json"), *((n.replace("_", "-"), v) for n, v in headers.items())]
    return Answer(status, pairs, json.dumps(value).encode())


def test_schemas_accept_what_the_client_accepts():
    schema.answer("POST", "/sdk/token", ok(TOKEN))
    schema.answer("POST", "/sdk/grants/list", ok(PAGE))
    schema.answer("POST", f"/sdk/oauth/grants/{GRANT}/revoke", ok(REVOKED))
    schema.answer("POST", f"/sdk/grants/{GRANT}/report-scope-mismatch", Answer(204, [], b""))


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_core_28_29_31_102_schema_notices_bad_token_answers(name: str):
    with pytest.raises(schema.Violation):
        schema.answer("POST", "/sdk/token", ok({**copy.deepcopy(TOKEN), **BAD_TOKENS[name]}))


@pytest.mark.parametrize("field", sorted(schema.TOKEN_FIELDS))
def test_core_28_schema_wants_every_field_of_the_token_answer(field: str):
    with pytest.raises(schema.Violation):
        schema.answer("POST", "/sdk/token", ok({k: v for k, v in TOKEN.items() if k != field}))


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_core_79_schema_notices_bad_grants(name: str):
    with pytest.raises(schema.Violation):
        schema.answer("POST", "/sdk/grants/list", ok({**PAGE, "grants": [{**ITEM, **BAD_ITEMS[name]}]}))


@pytest.mark.parametrize("field", PAGE)
def test_core_79_schema_wants_all_five_fields_of_a_page(field: str):
    with pytest.raises(schema.Violation):
        schema.answer("POST", "/sdk/grants/list", ok({k: v for k, v in PAGE.items() if k != field}))


@pytest.mark.parametrize("name", BAD_REVOKED)
def test_core_81_schema_notices_bad_revoke_answers(name: str):
    with pytest.raises(schema.Violation):
        schema.answer("POST", f"/sdk/oauth/grants/{GRANT}/revoke", ok({**REVOKED, **BAD_REVOKED[name]}))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(307, [("Location", "/elsewhere")], b""),
        Answer(500, [("Content-Type", "text/html")], b"<h1>oops</h1>"),
        ok({"error": "made_up", "message": "m"}, 403),
        ok({"detail": {"error": "policy_denied", "message": "m"}}, 403),
        ok({"error": "grant_not_found", "message": "m"}, 403),
        ok({"error": "policy_denied", "message": ""}, 403),
        ok({"error": "rate_limit_exceeded", "message": "m", "retry_after": 1.5}, 429),
        ok({"error": "busy", "message": "m"}, 503),
        ok(TOKEN, x_alter_actor_id="not-a-uuid"),
        ok(TOKEN, x_ratelimit_limit="5"),
        ok({"error": "busy", "message": "m"}, 503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    ],
)
def test_core_34_59_60_61_schema_notices_bad_envelopes(answer: Answer):
    with pytest.raises(schema.Violation):
        schema.answer("POST", "/sdk/token", answer)


@pytest.mark.parametrize("path", ["/sdk/token", "/sdk/grants/list", f"/sdk/oauth/grants/{GRANT}/revoke", "/sdk/scopes"])
def test_core_34_81_schema_notices_empty_answers(path: str):
    with pytest.raises(schema.Violation):
        schema.answer("GET" if path.endswith("scopes") else "POST", path, Answer(204, [], b""))


@pytest.mark.parametrize(
    "fields",
    [
        {"value": ""},
        {"value": "   "},
        {"value": "a\r\nX-Evil: 1"},
        {"value": "a\x00b"},
        {"value": "x" * (16 * 1024 + 1)},
        *({"credential_type": "header_key", "injection_header": name} for name in sorted(schema.FORBIDDEN_HEADERS)),
        {"credential_type": "header_key", "injection_header": "Set-Cookie"},
        {"credential_type": "header_key", "injection_header": "X Key"},
        {"credential_type": "header_key", "injection_header": "1-Key"},
        {"credential_type": "header_key", "injection_header": "X" * 61},
        {"credential_type": "header_key", "injection_header": ""},
        {"injection_format": "Bearer"},
        {"injection_format": "{token}\n"},
        {"injection_format": "{token}" + "x" * 194},
        {"injection_format": "AWS4-HMAC-SHA256 {token}"},
        {"fields": {"a": ""}},
        {"fields": {"a": "x\ny"}},
        {"fields": {"a": "x" * 8193}},
        {"fields": {"a" * 51: "x"}},
        {"fields": {"Upper": "x"}},
        {"fields": {f"f{i}": "x" for i in range(11)}},
        {"injections": [{"target": "cookie", "key": "k", "value_source": "token"}]},
        {"injections": [{"target": "header", "key": "Host", "value_source": "token"}]},
        {"injections": [{"target": "header", "key": "k" * 101, "value_source": "token"}]},
        {"injections": [{"target": "header", "key": "1k", "value_source": "token"}]},
        {"injections": [{"target": "header", "key": "k", "value_source": "additional_credentials.absent"}]},
        {"injections": [{"target": "header", "key": "k", "value_source": "token", "more": 1}]},
        {"injections": [{"target": "query_param", "key": f"k{i}", "value_source": "token"} for i in range(11)]},
        {"allowed_hosts": ["*.com"]},
        {"allowed_hosts": ["*.co.uk"]},
        {"allowed_hosts": ["*"]},
        {"allowed_hosts": ["https://x.example.com"]},
        {"allowed_hosts": ["10.0.0.0/8"]},
        {"allowed_hosts": [""]},
        {"allowed_hosts": ["a.example.com/" + "x" * 300]},
        {"allowed_hosts": [f"h{i}.example.com" for i in range(51)]},
        {"allowed_hosts": []},
        {"surprise": 1},
    ],
    ids=lambda fields: json.dumps(fields)[:60],
)
def test_what_would_make_a_bad_token_answer_cannot_be_stored(world: World, fields: dict):
    body = {"name": "n", "value": canary.token(), "allowed_hosts": ["api.example.com"], **fields}
    with pytest.raises(ApiError) as refused:
        world.api("POST", "/managed-secrets", body)
    assert refused.value.status in (400, 422), refused.value
    said = refused.value.answer.body.decode()
    assert any(name in said for name in [*fields, "more"]), said


@pytest.mark.parametrize(
    "fields",
    [
        {"value": "x"},
        {"value": "x" * 16 * 1024},
        {"credential_type": "header_key", "injection_header": "X" * 60, "injection_format": "{token}" + "x" * 193},
        {"fields": {"a" * 50: "x" * 8192}},
        {"fields": {f"f{i}": "x" for i in range(10)}},
        {"injections": [{"target": "query_param", "key": "k" * 100, "value_source": "token"}]},
        {"injections": [{"target": "query_param", "key": f"k{i}", "value_source": "token"} for i in range(10)]},
        {"name": "Ünïcode Näme " + "x" * 40},
        {"allow_any_host": True, "allowed_hosts": []},
    ],
    ids=lambda fields: json.dumps(fields)[:60],
)
def test_extremes_that_can_be_stored_give_good_token_answers(world: World, fields: dict):
    secret = world.secret(**{"hosts": ["api.example.com"], **fields} if "allowed_hosts" not in fields else fields)
    body = world.token_body(secret.grant_id, "https://api.example.com/v1")
    answer = world.send(world.signed("POST", "/sdk/token", body))
    assert answer.status == 200, answer
    schema.answer("POST", "/sdk/token", answer)
    assert answer.json()["access_token"] == fields.get("value", secret.value)


def test_core_34_81_no_empty_answers(world: World):
    """204 on these routes is an error to the client; each answers with its JSON object."""
    secret = world.secret()
    grant = world.grant(secret)
    for method, path, body, status in (
        ("POST", "/sdk/token", world.token_body(grant), 200),
        ("POST", "/sdk/grants/list", {}, 200),
        ("POST", f"/sdk/managed-secrets/{secret.id}/grants", {"principal": {"type": "system"}}, 201),
        ("GET", "/sdk/scopes", None, 200),
        ("POST", f"/sdk/oauth/grants/{grant}/revoke", {}, 200),
    ):
        answer = world.send(world.signed(method, path, body))
        assert answer.status == status, (path, answer)
        schema.answer(method, path, answer)
        assert answer.header("content-type").startswith("application/json")


def test_token_answers_are_not_cached(world: World):
    answer = world.send(world.token_request(world.secret().grant_id))
    assert "no-store" in (answer.header("cache-control") or ""), answer.headers
