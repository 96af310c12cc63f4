"""Cases 26 to 47: `request()` with a credential of every kind, and what the provider's answer makes of it."""

from __future__ import annotations

import base64
import json

import pytest
from alter_sdk import (
    Agent,
    AgentDelegationMissingError,
    AlterSDKError,
    AlterValueError,
    BackendError,
    GrantNotFoundError,
    GrantRevokedError,
    NetworkError,
    ProviderAPIError,
    ProviderUnauthorizedError,
    ScopeReauthRequiredError,
)

from harness import canary, schema
from harness.world import World

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


async def test_core_26_bearer_token(world: World):
    secret = world.secret()
    async with world.vault() as app:
        answer = await app.request(
            "POST",
            world.corner.url("echo", "/v1/{item}"),
            grant_id=secret.grant_id,
            path_params={"item": "a b"},
            query_params={"q": "x"},
            json={"hello": "wörld"},
            extra_headers={"X-Custom": "1"},
            reason="monthly report",
            context={"user_id": "u1", "run_id": "r1"},
        )
    assert answer.json()["method"] == "POST"
    seen = world.corner.seen
    assert len(seen) == 1
    assert seen[0].header("authorization") == f"Bearer {secret.value}"
    assert seen[0].header("x-custom") == "1"
    assert json.loads(seen[0].body) == {"hello": "wörld"}
    assert seen[0].target.endswith("/v1/a%20b?q=x")
    assert not {n for n in seen[0].header_names() if n == "x-api-key" or n.startswith("x-alter-")}


async def test_core_26_every_call_has_one_release_event(world: World):
    secret = world.secret()
    async with world.vault(caller="worker") as app:
        await app.request(
            "GET",
            world.corner.url("echo", "/v1/items?page=2&q=hidden"),
            grant_id=secret.grant_id,
            reason="monthly report",
            context={"user_id": "u1"},
        )
    (event,) = world.events(kind="token.released")
    expected = {
        "app_id": world.app_id,
        "kind": "token.released",
        "outcome": "allowed",
        "key_id": world.key.id,
        "key_prefix": world.key.api_key[:13],
        "grant_id": secret.grant_id,
        "principal_type": "system",
        "provider_id": secret.slug,
        "mode": "retrieve",
        "method": "GET",
        "reason": "monthly report",
        "context": {"user_id": "u1"},
        "caller": "worker",
        "ip": "127.0.0.1",
        "user_agent": "alter-sdk-python/0.29.0",
        "query_names": ["page", "q"],
    }
    assert {k: event.get(k) for k in expected} == expected
    assert event["path"].endswith("/echo/v1/items")
    assert event["host"].split(":")[0] == "127.0.0.1"
    assert "hidden" not in repr(event)
    for field in ("id", "credential_id"):
        schema.uuid(event[field], field)
    schema.moment(event["at"], "at")
    assert event["credential_version"] >= 1 and event["hash"]


async def test_core_26_head_delete_and_raw_bodies(world: World):
    secret = world.secret()
    async with world.vault() as app:
        for method in ("HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "get"):
            body = b"raw" if method in ("PUT", "PATCH") else None
            answer = await app.request(method, world.corner.url(), grant_id=secret.grant_id, body=body)
            assert answer.status_code == 200
    assert [s.method for s in world.corner.seen] == ["HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "GET"]
    events = world.events(kind="token.released")
    assert [e["method"] for e in events] == ["HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "GET"]


async def test_core_30_header_format_and_further_injections(world: World):
    fields = {"app_id": canary.token(), "region": canary.token()}
    secret = world.secret(
        credential_type="header_key",
        injection_header="X-Service-Key",
        injection_format="Key {token}",
        fields=fields,
        injections=[
            {"target": "header", "key": "X-App-Id", "value_source": "additional_credentials.app_id"},
            {"target": "query_param", "key": "region", "value_source": "additional_credentials.region"},
            {"target": "query_param", "key": "token", "value_source": "token"},
        ],
    )
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, query_params={"q": "1"})
    (seen,) = world.corner.seen
    assert seen.header("x-service-key") == f"Key {secret.value}"
    assert seen.header("x-app-id") == fields["app_id"]
    assert dict(seen.query) == {"q": "1", "region": fields["region"], "token": secret.value}
    assert seen.header("authorization") is None


async def test_core_30_basic_auth(world: World):
    password = canary.password()
    secret = world.secret(f"user:{password}", credential_type="basic_auth")
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    (seen,) = world.corner.seen
    scheme, _, encoded = seen.header("authorization").partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(encoded).decode() == f"user:{password}"


async def test_core_30_the_callers_own_header_of_that_name_is_replaced(world: World):
    secret = world.secret(credential_type="header_key", injection_header="X-Key", injection_format="{token}")
    async with world.vault() as app:
        await app.request(
            "GET", world.corner.url(), grant_id=secret.grant_id, extra_headers={"X-Key": "mine", "X-Other": "kept"}
        )
    (seen,) = world.corner.seen
    assert [v for n, v in seen.headers if n.lower() == "x-key"] == [secret.value]
    assert seen.header("x-other") == "kept"


async def test_core_35_a_rotated_value_is_used_at_once_by_every_grant(world: World):
    secret = world.secret()
    second = world.grant(secret)
    generations = []
    async with world.vault() as app:
        for value in (secret.value, canary.token(), canary.token()):
            if value != secret.value:
                world.api("POST", f"/managed-secrets/{secret.id}/rotate", {"value": value})
            for grant in (secret.grant_id, second):
                await app.request("GET", world.corner.url(), grant_id=grant)
                assert world.corner.seen[-1].header("authorization") == f"Bearer {value}"
    for exchange in world.exchanges(path="/sdk/token"):
        generations.append(exchange.answer.json()["token_generation"])
    assert len(set(generations)) == 3
    assert [e["credential_version"] for e in world.events(kind="token.released")] == [1, 1, 2, 2, 3, 3]


async def test_core_33_user_of_no_identity_provider(world: World):
    """Only agents name a user, and a token of no identity provider proves nothing: typed, never a guess."""
    secret = world.secret()
    async with world.vault() as app:
        with pytest.raises(BackendError) as error:
            await app.request(
                "GET", world.corner.url(), provider=secret.slug, account="a@b.c", label="work", app_user_id="u"
            )
        assert (type(error.value), error.value.status_code) == (BackendError, 400)
        with pytest.raises(BackendError) as error:
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token="a.b.c")
        assert error.value.details["error"] == "jwt_validation_error"
    sent = json.loads(world.exchanges(path="/sdk/token")[0].body)
    assert sent == {
        "provider_id": secret.slug,
        "reason": None,
        "request": {"method": "GET", "url": world.corner.url()},
        "account": "a@b.c",
        "label": "work",
        "app_user_id": "u",
    }
    assert world.corner.seen == []


async def test_core_36_unknown_grant(world: World):
    for kind, expected in ((None, GrantNotFoundError), (Agent, AgentDelegationMissingError)):
        async with world.vault(kind=kind) as app:
            with pytest.raises(GrantNotFoundError) as error:
                await app.request("GET", world.corner.url(), grant_id=UNKNOWN)
        assert type(error.value) is expected
        assert (error.value.status_code, error.value.details["error"]) == (404, "grant_not_found")
    assert world.corner.seen == []


async def test_core_36_foreign_grant_answers_exactly_as_an_unknown_one(world: World):
    foreign = world.other_app().secret().grant_id
    answers = []
    for grant in (foreign, UNKNOWN):
        answers.append(world.send(world.token_request(grant)))
    assert {a.status for a in answers} == {404}
    bodies = [a.body.replace(foreign.encode(), b"ID").replace(UNKNOWN.encode(), b"ID") for a in answers]
    assert bodies[0] == bodies[1]
    names = [sorted(n.lower() for n, _ in a.headers) for a in answers]
    assert names[0] == names[1]


async def test_core_36_other_forms_of_an_id_are_unknown(world: World):
    grant = world.secret().grant_id
    forms = [
        grant.upper(),
        grant.replace("-", ""),
        f"{{{grant}}}",
        f"urn:uuid:{grant}",
        f" {grant}",
        grant + "\n",
        "",
        "g",
        "9" * 200,
        "../" + grant,
    ]
    async with world.vault() as app:
        for form in forms:
            if not form:
                continue
            with pytest.raises(GrantNotFoundError) as error:
                await app.request("GET", world.corner.url(), grant_id=form)
            assert error.value.details["error"] == "grant_not_found", form
    for form in forms:
        assert world.send(world.token_request(form)).status == 404, form
    assert world.corner.seen == []


async def test_core_37_provider_401(world: World):
    secret = world.secret()
    async with world.vault() as app:
        with pytest.raises(ProviderUnauthorizedError) as error:
            await app.request("GET", world.corner.url("status", "/401"), grant_id=secret.grant_id)
    assert (error.value.grant_id, error.value.provider_id) == (secret.grant_id, secret.slug)
    assert error.value.status_code == 401
    assert len(world.corner.seen) == 1
    assert len(world.exchanges(path="/sdk/token")) == 1
    (claim,) = world.events(kind="call.claimed")
    assert claim["claimed"]["status"] == 401


async def test_core_38_provider_says_insufficient_scope(world: World):
    secret = world.secret()
    async with world.vault() as app:
        with pytest.raises(ScopeReauthRequiredError) as error:
            await app.request("GET", world.corner.url("challenge", "/403?key=v"), grant_id=secret.grant_id)
    assert error.value.missing_scopes == ["mail.read", "mail.send"]
    assert (error.value.grant_id, error.value.status_code) == (secret.grant_id, 403)
    (report,) = world.exchanges(path=f"/sdk/grants/{secret.grant_id}/report-scope-mismatch")
    assert (report.answer.status, report.answer.body) == (204, b"")
    assert report.header("X-Alter-Signature")
    assert json.loads(report.body)["missing_scopes"] == ["mail.read", "mail.send"]
    (event,) = world.events(kind="scope_mismatch.claimed")
    assert (event["grant_id"], event["claim"]) == (secret.grant_id, True)
    assert event["claimed"]["missing_scopes"] == ["mail.read", "mail.send"]
    assert "key=v" not in json.dumps(event)


async def test_core_39_provider_401_with_scope_challenge(world: World):
    secret = world.secret()
    async with world.vault() as app:
        with pytest.raises(ProviderAPIError) as error:
            await app.request("GET", world.corner.url("challenge", "/401"), grant_id=secret.grant_id)
    assert type(error.value) is ProviderAPIError
    assert error.value.status_code == 401


async def test_core_41_provider_500_and_302(world: World):
    secret = world.secret()
    async with world.vault() as app:
        with pytest.raises(ProviderAPIError) as error:
            await app.request("GET", world.corner.url("status", "/500"), grant_id=secret.grant_id)
        assert (type(error.value), error.value.status_code) == (ProviderAPIError, 500)
        answer = await app.request("GET", world.corner.url("redirect"), grant_id=secret.grant_id)
        assert answer.status_code == 302
    assert not any("followed" in s.target for s in world.corner.seen)


async def test_core_42_provider_unreachable(world: World):
    secret = world.secret()
    url = f"http://127.0.0.1:{world.services.closed_port}/x"
    async with world.vault() as app:
        with pytest.raises(NetworkError):
            await app.request("GET", url, grant_id=secret.grant_id, reason="unreachable")
    (claim,) = world.events(kind="call.claimed")
    assert claim["claim"] is True
    assert claim["claimed"]["status"] == 0
    assert claim["reason"] == "unreachable"


async def test_core_44_audit_report_becomes_a_claim(world: World):
    fields = {"extra": canary.token()}
    secret = world.secret(
        fields=fields,
        injections=[
            {"target": "header", "key": "X-Extra", "value_source": "additional_credentials.extra"},
            {"target": "query_param", "key": "qk", "value_source": "token"},
        ],
    )
    async with world.vault() as app:
        await app.request(
            "POST",
            world.corner.url("echo", "/v1/x"),
            grant_id=secret.grant_id,
            json={"card": canary.token()},
            extra_headers={"X-Note": canary.token()},
            query_params={"q": canary.token()},
            reason="why",
            context={"user_id": "u9", "run_id": "r9"},
        )
    (sent,) = world.exchanges(path="/sdk/oauth/audit/api-call")
    assert 200 <= sent.answer.status < 300
    body = json.loads(sent.body)
    assert body["token_generation"] == world.exchanges(path="/sdk/token")[0].answer.json()["token_generation"]
    assert not {"authorization", "x-extra"} & {n.lower() for n in body["request_headers"]}
    (claim,) = world.events(kind="call.claimed")
    (release,) = world.events(kind="token.released")
    assert claim["claim"] is True
    assert (claim["reason"], claim["context"]) == ("why", {"user_id": "u9", "run_id": "r9"})
    for field in ("grant_id", "key_id", "provider_id"):
        assert claim[field] == release[field], field
    said = {"method": "POST", "host": release["host"], "path": release["path"], "status": 200}
    assert {field: claim["claimed"].get(field) for field in said} == said
    # What the caller says stays apart from what the server saw.
    assert not {"method", "host", "path", "status"} & claim.keys()
    # The response body echoed the credential, and the caller's own data travelled along: none of it is kept.
    assert canary.MARKER not in json.dumps(claim)


async def test_core_44_claim_without_a_release_is_unmatched(world: World):
    secret = world.secret()
    report = {
        "grant_id": secret.grant_id,
        "provider_id": secret.slug,
        "token_generation": None,
        "method": "GET",
        "url": "https://api.example.com/v1?secret=1",
        "request_headers": None,
        "request_body": None,
        "response_status": 200,
        "response_headers": None,
        "response_body": "",
        "latency_ms": 12,
        "reason": None,
        "context": None,
    }
    answer = world.send(world.signed("POST", "/sdk/oauth/audit/api-call", report))
    assert 200 <= answer.status < 300, answer
    (claim,) = world.events(kind="call.claimed")
    assert claim["claim"] == "unmatched"
    assert "secret=1" not in json.dumps(claim)


async def test_core_44_claim_does_not_choose_its_provider(world: World):
    """Else a claim would show up in the history of a provider that it never touched."""
    secret, other = world.secret(), world.secret()
    report = {
        "grant_id": secret.grant_id,
        "provider_id": other.slug,
        "method": "GET",
        "url": "https://x.example/",
        "response_status": 200,
    }
    assert world.send(world.signed("POST", "/sdk/oauth/audit/api-call", report)).status < 300
    (claim,) = world.events(kind="call.claimed")
    assert claim.get("provider_id") in (None, secret.slug)
    assert world.events(kind="call.claimed", provider=other.slug) == []


async def test_core_44_claim_for_a_foreign_grant_does_not_reach_its_app(world: World):
    other = world.other_app()
    foreign = other.secret()
    report = {"grant_id": foreign.grant_id, "provider_id": "", "method": "GET", "url": "https://x.example/"}
    report |= {"response_status": 200, "response_body": "", "latency_ms": 1, "reason": None, "context": None}
    answer = world.send(world.signed("POST", "/sdk/oauth/audit/api-call", report))
    unknown = world.send(world.signed("POST", "/sdk/oauth/audit/api-call", report | {"grant_id": UNKNOWN}))
    assert (answer.status, answer.error) == (unknown.status, unknown.error)
    assert answer.status < 500
    assert other.events(kind="call.claimed") == []


async def test_core_45_plain_http_target_is_refused_by_the_client(world: World):
    async with world.vault() as app:
        with pytest.raises(AlterValueError):
            await app.request("GET", "http://example.com/", grant_id=UNKNOWN)
    assert world.exchanges() == []


async def test_core_46_getter_that_raises(world: World):
    def broken() -> str:
        raise RuntimeError("no user")

    async with world.vault(user_token_getter=broken) as app:
        with pytest.raises(AlterSDKError):
            await app.request("GET", world.corner.url(), grant_id=UNKNOWN)
    assert world.exchanges() == []


async def test_core_47_revoked_by_the_client(world: World):
    secret = world.secret()
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
        done = await app.revoke_grant(secret.grant_id, reason="left the company")
        assert (done.success, done.grant_id) == (True, secret.grant_id)
        for _ in range(2):
            with pytest.raises(GrantRevokedError) as error:
                await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
            assert error.value.grant_id == secret.grant_id
            assert error.value.status_code in (400, 403)
    assert len(world.corner.seen) == 1
    (revoked,) = world.events(kind="grant.revoked")
    assert (revoked["grant_id"], revoked["reason"]) == (secret.grant_id, "left the company")
    denied = world.events(kind="token.denied")
    assert [e["code"] for e in denied] == ["grant_revoked", "grant_revoked"]


async def test_core_47_revoked_by_the_operator_leaves_other_grants_alone(world: World):
    secret = world.secret()
    second = world.grant(secret)
    world.revoke(second, "rotation")
    async with world.vault() as app:
        with pytest.raises(GrantRevokedError):
            await app.request("GET", world.corner.url(), grant_id=second)
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    assert len(world.corner.seen) == 1


async def test_reason_is_kept_up_to_its_limit_and_refused_beyond(world: World):
    secret = world.secret()
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id, reason="r" * 2000)
        with pytest.raises(BackendError) as error:
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id, reason="r" * 2001)
    assert error.value.status_code in (400, 422)
    assert "reason" in json.dumps(error.value.details)
    assert [len(e["reason"]) for e in world.events(kind="token.released")] == [2000]


async def test_one_token_call_per_request_and_nothing_is_cached(world: World):
    secret = world.secret()
    async with world.vault() as app:
        for _ in range(5):
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    assert len(world.exchanges(path="/sdk/token")) == 5
    assert len(world.events(kind="token.released")) == 5
    assert len(world.events(kind="call.claimed")) == 5
