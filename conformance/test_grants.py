"""Cases 79 to 83, as far as managed-secret grants go: list, revoke, create."""

from __future__ import annotations

import datetime
import json

import pytest
from alter_sdk import (
    Agent,
    AgentPrincipal,
    AlterValueError,
    BackendError,
    GrantExpiredError,
    GrantNotFoundError,
    GroupPrincipal,
    ManagedSecretGrantItem,
    ReAuthRequiredError,
    SiblingLabelConflictError,
    SystemPrincipal,
    UserPrincipal,
)

from harness import schema
from harness.server import wait_until
from harness.world import World
from signing import Request

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


async def test_core_79_page_of_managed_secret_grants(world: World):
    secret = world.secret()
    labelled = world.grant(secret, label="reports")
    async with world.vault() as app:
        page = await app.list_grants()
    assert (page.total, page.limit, page.offset, page.has_more) == (2, 100, 0, False)
    assert {type(item) for item in page.grants} == {ManagedSecretGrantItem}
    items = {item.grant_id: item for item in page.grants}
    assert items.keys() == {secret.grant_id, labelled}
    item = items[labelled]
    assert (item.managed_secret_id, item.managed_secret_slug) == (secret.id, secret.slug)
    assert (item.status, item.principal_type, item.label) == ("active", "system", "reports")
    assert (item.access_via, item.depth, item.delegable, item.expires_at) == ("ownership", 0, False, None)


async def test_core_79_empty_page(world: World):
    async with world.vault() as app:
        page = await app.list_grants(limit=1, offset=0)
    assert (page.grants, page.total, page.limit, page.has_more) == ([], 0, 1, False)


async def test_core_79_paging_visits_every_grant_once(world: World):
    secret = world.secret()
    made = {secret.grant_id} | {world.grant(secret) for _ in range(6)}
    seen = []
    async with world.vault() as app:
        for offset in range(0, 9, 3):
            page = await app.list_grants(limit=3, offset=offset)
            assert page.total == 7
            assert page.has_more is (offset + 3 < 7)
            seen += [g.grant_id for g in page.grants]
        assert (await app.list_grants(limit=1000, offset=10_000)).grants == []
    assert len(seen) == 7 and set(seen) == made


async def test_core_79_filters(world: World):
    first, second = world.secret(), world.secret()
    labelled = world.grant(first, label="nightly")
    gone = world.grant(first, label="gone")
    world.revoke(gone)
    async with world.vault() as app:

        async def ids(**filters: str) -> set[str]:
            page = await app.list_grants(**filters)
            assert page.total == len(page.grants)
            return {g.grant_id for g in page.grants}

        assert await ids(provider_id=second.slug) == {second.grant_id}
        assert await ids(label="nightly") == {labelled}
        assert await ids(label="night") == set()
        assert await ids(status="revoked") == {gone}
        assert await ids(status="active") == {first.grant_id, second.grant_id, labelled}
        assert await ids(provider_id=first.slug, status="active", label="nightly") == {labelled}
        assert await ids(provider_id="nothing") == set()


async def test_core_79_last_use_shows(world: World):
    secret = world.secret()
    async with world.vault() as app:
        assert (await app.list_grants()).grants[0].last_used_at is None
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)

    # It may be written behind the answer, but not much later.
    def used() -> str | None:
        answer = world.send(world.signed("POST", "/sdk/grants/list", {}))
        return answer.json()["grants"][0]["last_used_at"]

    wait_until(used, what="last_used_at is written")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 10_001}, "offset"),
        ({"label": 5}, "label"),
        ({"status": []}, "status"),
    ],
)
def test_core_79_values_that_no_list_can_have(world: World, body: dict, named: str):
    answer = world.send(world.signed("POST", "/sdk/grants/list", body))
    assert answer.status in (400, 422), answer
    assert named in json.dumps(answer.json())
    schema.error(answer.status, answer.json())


async def test_core_79_grants_of_another_app_do_not_show(world: World):
    mine, other = world.secret(), world.other_app()
    theirs = other.secret()
    async with world.vault() as app:
        assert [g.grant_id for g in (await app.list_grants()).grants] == [mine.grant_id]
        assert (await app.list_grants(provider_id=theirs.slug)).grants == []


async def test_core_80_getter_of_an_app_is_used_and_that_of_an_agent_is_not(world: World):
    world.secret()
    async with world.vault(user_token_getter=lambda: "a.b.c") as app:
        with pytest.raises(ReAuthRequiredError) as error:
            await app.list_grants()
        assert error.value.details["error"] == "jwt_validation_error"
    async with world.vault(kind=Agent, user_token_getter=lambda: "a.b.c") as agent:
        assert (await agent.list_grants()).total == 1
    bodies = [json.loads(e.body) for e in world.exchanges(path="/sdk/grants/list")]
    assert [b.get("user_token") for b in bodies] == ["a.b.c", None]


async def test_core_81_revoke_answers_all_four_fields(world: World):
    grant = world.secret().grant_id
    before = datetime.datetime.now(datetime.timezone.utc)
    async with world.vault() as app:
        done = await app.revoke_grant(grant)
        assert (done.success, done.grant_id) == (True, grant)
        assert done.message
        at = datetime.datetime.fromisoformat(done.revoked_at.replace("Z", "+00:00"))
        assert abs((at - before).total_seconds()) < 60
        assert [g.status for g in (await app.list_grants()).grants] == ["revoked"]


async def test_core_81_revoking_twice_changes_nothing_more(world: World):
    secret = world.secret()
    async with world.vault() as app:
        first = await app.revoke_grant(secret.grant_id, reason="first")
        second = await app.revoke_grant(secret.grant_id, reason="second")
    assert second.revoked_at == first.revoked_at
    assert [e["reason"] for e in world.events(kind="grant.revoked")] == ["first"]


async def test_core_81_unknown_foreign_and_malformed_ids(world: World):
    foreign = world.other_app().secret().grant_id
    async with world.vault() as app:
        for grant in (UNKNOWN, foreign):
            with pytest.raises(GrantNotFoundError) as error:
                await app.revoke_grant(grant)
            assert error.value.details["error"] == "grant_not_found"
        with pytest.raises(AlterValueError):
            await app.revoke_grant("not-a-uuid")
    for form in (foreign.upper(), "x", "%20", foreign.replace("-", "")):
        assert world.send(world.signed("POST", f"/sdk/oauth/grants/{form}/revoke", {})).status == 404, form


async def test_core_81_with_a_user_token(world: World):
    grant = world.secret().grant_id
    async with world.vault(user_token_getter=lambda: "a.b.c") as app:
        with pytest.raises(ReAuthRequiredError):
            await app.revoke_grant(grant)
    async with world.vault() as app:
        assert [g.status for g in (await app.list_grants()).grants] == ["active"]


@pytest.mark.parametrize("body", [b"null", b"[]", b'{"reason":5}', b'{"reason":"' + b"x" * 2001 + b'"}', b"{"])
def test_core_81_malformed_revoke_bodies(world: World, body: bytes):
    grant = world.secret().grant_id
    path = f"/sdk/oauth/grants/{grant}/revoke"
    answer = world.send(Request("POST", path, world.key.api_key, body).sign())
    assert answer.status in (400, 422), answer
    assert world.events(kind="grant.revoked") == []


async def test_core_83_system_grant_on_a_managed_secret(world: World):
    secret = world.secret()
    async with world.vault() as app:
        made = await app.create_managed_secret_grant(secret.id, principal=SystemPrincipal(label="nightly job"))
        assert (made.principal_type, made.label) == ("system", "nightly job")
        assert made.grant_id != secret.grant_id
        await app.request("GET", world.corner.url(), grant_id=made.grant_id)
        by_slug = await app.create_managed_secret_grant(secret.slug, principal=SystemPrincipal())
        assert by_slug.label is None
        listed = {g.grant_id: g for g in (await app.list_grants()).grants}
    assert listed.keys() == {secret.grant_id, made.grant_id, by_slug.grant_id}
    assert listed[made.grant_id].credential_id == made.credential_id == by_slug.credential_id
    assert world.corner.seen[0].header("authorization") == f"Bearer {secret.value}"
    (exchange,) = world.exchanges(path=f"/sdk/managed-secrets/{secret.id}/grants")
    assert exchange.answer.status == 201
    assert {e["grant_id"] for e in world.events(kind="grant.created")} >= {made.grant_id, by_slug.grant_id}


async def test_core_83_lifetime_of_a_grant(world: World):
    secret = world.secret()
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    async with world.vault() as app:

        async def expiry(**policy: object) -> str | None:
            made = await app.create_managed_secret_grant(
                secret.id, principal=SystemPrincipal(label=f"l{len(policy)}{policy}"[:200]), grant_policy=policy
            )
            item = {g.grant_id: g for g in (await app.list_grants()).grants}[made.grant_id]
            return item.grant_expires_at or item.expires_at

        assert await expiry() is None
        fixed = await expiry(expires_at=soon.isoformat().replace("+00:00", "Z"))
        assert _seconds_until(fixed) == pytest.approx(3600, abs=60)
        assert _seconds_until(await expiry(default_ttl_seconds=600)) == pytest.approx(600, abs=60)
        capped = await expiry(max_ttl_seconds=300, default_ttl_seconds=300)
        assert _seconds_until(capped) == pytest.approx(300, abs=60)
        assert _seconds_until(await expiry(max_ttl_seconds=300, default_ttl_seconds=900)) < 301
        late = {"expires_at": (soon + datetime.timedelta(days=1)).isoformat(), "max_ttl_seconds": 300}
        assert _seconds_until(await expiry(**late)) < 301


def _seconds_until(text: str) -> float:
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


async def test_core_83_short_lived_grant_lapses(world: World):
    secret = world.secret()
    async with world.vault() as app:
        made = await app.create_managed_secret_grant(
            secret.id, principal=SystemPrincipal(label="short"), grant_policy={"default_ttl_seconds": 1}
        )
        wait_until(
            lambda: world.send(world.token_request(made.grant_id)).error == "grant_expired", what="the grant lapses"
        )
        with pytest.raises(GrantExpiredError):
            await app.request("GET", world.corner.url(), grant_id=made.grant_id)


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": 5}, "expires_at"),
        ({"max_ttl_seconds": 0}, "max_ttl_seconds"),
        ({"max_ttl_seconds": -5}, "max_ttl_seconds"),
        ({"default_ttl_seconds": 1.5}, "default_ttl_seconds"),
        ({"default_ttl_seconds": "60"}, "default_ttl_seconds"),
        ({"default_ttl_seconds": 10**30}, "default_ttl_seconds"),
        ({"maxTtlSeconds": 5}, "maxTtlSeconds"),
    ],
)
def test_core_83_impossible_lifetimes(world: World, policy: dict, named: str):
    secret = world.secret()
    body = {"principal": {"type": "system", "label": None}, "grant_policy": policy}
    answer = world.send(world.signed("POST", f"/sdk/managed-secrets/{secret.id}/grants", body))
    assert answer.status in (400, 422), answer
    assert named in json.dumps(answer.json())
    schema.error(answer.status, answer.json())


async def test_core_83_label_is_unique_among_living_siblings(world: World):
    secret = world.secret()
    async with world.vault() as app:
        first = await app.create_managed_secret_grant(secret.id, principal=SystemPrincipal(label="job"))
        with pytest.raises(SiblingLabelConflictError) as error:
            await app.create_managed_secret_grant(secret.id, principal=SystemPrincipal(label="job"))
        assert error.value.status_code == 409
        await app.revoke_grant(first.grant_id)
        await app.create_managed_secret_grant(secret.id, principal=SystemPrincipal(label="job"))
        other = world.secret()
        await app.create_managed_secret_grant(other.id, principal=SystemPrincipal(label="job"))


@pytest.mark.parametrize("label", ["", " x", "x ", "a\nb", "a\x7fb", "x" * 256, 5])
def test_core_83_labels_that_cannot_be(world: World, label: object):
    secret = world.secret()
    body = {"principal": {"type": "system", "label": label}, "grant_policy": {}}
    answer = world.send(world.signed("POST", f"/sdk/managed-secrets/{secret.id}/grants", body))
    assert answer.status in (400, 422), answer
    assert any(f'"{name}"' in answer.body.decode() for name in ("principal.label", "principal", "label"))


async def test_core_83_principals_that_are_not_known(world: World):
    secret = world.secret()
    async with world.vault() as app:
        for principal, status, code in (
            (UserPrincipal(user_token="a.b.c", label="u"), 401, "jwt_validation_error"),
            (GroupPrincipal(external_group_id="g", idp_id=UNKNOWN, label="g"), 422, "invalid_value"),
            (AgentPrincipal(label="a"), 422, None),
        ):
            with pytest.raises(BackendError) as error:
                await app.create_managed_secret_grant(secret.id, principal=principal)
            assert error.value.status_code == status, principal
            assert code is None or error.value.details["error"] == code
        assert (await app.list_grants()).total == 1


async def test_core_83_unknown_and_foreign_secrets(world: World):
    foreign = world.other_app().secret()
    answers = []
    for secret in (UNKNOWN, foreign.id, foreign.slug, "no-such-slug", foreign.id.upper()):
        body = {"principal": {"type": "system", "label": None}, "grant_policy": {}}
        answer = world.send(world.signed("POST", f"/sdk/managed-secrets/{secret}/grants", body))
        answers.append((answer.status, answer.error))
    assert {status for status, _ in answers} == {404}
    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    "principal", [None, {}, {"type": "robot"}, {"type": 5}, "system", {"type": "system", "label": {}}, {"label": "x"}]
)
def test_core_83_malformed_principals(world: World, principal: object):
    secret = world.secret()
    body = {"principal": principal, "grant_policy": {}}
    answer = world.send(world.signed("POST", f"/sdk/managed-secrets/{secret.id}/grants", body))
    assert (answer.status, answer.error) in ((400, "invalid_request"), (422, "invalid_value")), answer


def test_core_83_named_credential(world: World):
    secret = world.secret()
    path = f"/sdk/managed-secrets/{secret.id}/grants"
    credential = world.events(kind="grant.created")[0]["credential_id"]
    body = {"principal": {"type": "system", "label": "c"}, "grant_policy": {}, "credential_id": credential}
    assert world.send(world.signed("POST", path, body)).status == 201
    body["credential_id"], body["principal"]["label"] = UNKNOWN, "d"
    answer = world.send(world.signed("POST", path, body))
    assert answer.status in (404, 422), answer


async def test_ext_76_the_provider_catalogue_is_asked_for_once(world: World):
    key = world.mint(["providers:read"])
    async with world.vault(key) as app:
        first = await app.oauth_providers.list()
        again = await app.oauth_providers.list()
    assert len(world.exchanges(key, "/sdk/oauth/provider-catalog")) == 1
    assert len(first.providers) == 71 and first.providers == again.providers
    google = first.providers["google"]
    assert google.display_name == "Google" and google.supports_refresh and google.supports_pkce
    assert "openid" in google.required_scopes and google.available_scopes["openid"].required


async def test_scope_catalogue(world: World):
    key = world.mint(["spans:emit"])
    async with world.vault(key) as app:
        catalogue = await app.scopes.list()
    assert catalogue.scope_version >= 1
    assert set(catalogue.resources) == set("agents grants keys secrets idp_users approvals providers".split())
    assert set(catalogue.action_verbs) == set(
        """tokens:retrieve proxy:execute proxy:stream connect:initiate keys:derive audit:emit spans:emit
        identity:resolve identity:assert""".split()
    )
    for resource in catalogue.resources.values():
        assert set(resource.verbs) == {"read", "write", "admin"}
