"""Cases 94 to 97 and 100, and 80 to 91 of the extended list: users of a real identity provider, who sign in, are resolved and
asserted, and reach their own grants and no others."""

from __future__ import annotations

import asyncio
import json
import time
import webbrowser

import pytest
from alter_sdk import (
    AlterSDKError,
    AmbiguousGrantError,
    App,
    BackendError,
    ConnectTimeoutError,
    GrantDeletedError,
    GrantNotFoundError,
    GroupPrincipal,
    ReAuthRequiredError,
    SystemPrincipal,
    UserPrincipal,
    verify_identity_assertion,
)

from harness import http
from harness.authorization_server import AuthorizationServer
from harness.connecting import played, session
from harness.identity import encoded, goes, part, registered, signed_in, with_claims, with_header
from harness.world import World

SESSION = "/sdk/auth/session"
POLL = "/sdk/auth/poll"
TOKEN = "/sdk/token"
UNKNOWN = "0198c0de-0000-7000-8000-000000000000"
AUDIENCE = "https://memory.example.com"


def check(error: BackendError) -> str:
    """Which check a user token failed."""
    assert (error.status_code, error.details["error"]) == (401, "jwt_validation_error"), error.details
    return error.details["details"]["check"] if "details" in error.details else error.details["check"]


# Sign-in


async def test_core_94_authenticate(
    world: World, authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
):
    idp, secret = registered(world, authorization_server), world.secret()
    said: list[asyncio.Future] = []

    def opened(url: str) -> bool:
        said.append(asyncio.get_running_loop().run_in_executor(None, goes, idp, url, "alice"))
        return True

    monkeypatch.setattr(webbrowser, "open", opened)
    async with world.vault() as app:
        result = await app.authenticate(timeout=30)
        assert "You are signed in" in await said[0]
        assert result.user_info == {"sub": "alice", "email": "alice@example.test", "name": "Account alice"}
        assert part(result.user_token, 1)["sub"] == "alice"
        # From now on, every call of this client is the user's.
        principal = UserPrincipal(user_token=result.user_token, label="own")
        made = await app.create_managed_secret_grant(secret.id, principal=principal)
        answer = await app.request("GET", world.corner.url(), provider=secret.slug)
        assert answer.status_code == 200
        listed = await app.list_grants()
        assert [grant.grant_id for grant in listed.grants] == [made.grant_id]
        resolved = await app.resolve_identity()
        assert resolved.external_subject_id == "alice"
    assert json.loads(world.exchanges(path=SESSION)[0].body) == {}
    assert world.exchanges(path=SESSION)[0].answer.status == 201
    for path in (TOKEN, "/sdk/grants/list", "/sdk/identity/resolve"):
        assert json.loads(world.exchanges(path=path)[-1].body)["user_token"] == result.user_token, path


def says(world: World, status: str, times: int = 1) -> None:
    """The client is told this status in place of the next 200s or 201s."""
    left = [times]

    def changed(data: bytes) -> bytes:
        if not left[0] or not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")):
            return data
        left[0] -= 1
        return f"HTTP/1.1 {status}".encode() + data[data.index(b"\r\n") :]

    world.tap.edit_answers[world.key.api_key] = changed


async def test_core_94_a_session_is_created_or_is_none(world: World, authorization_server: AuthorizationServer):
    """Extended case 87: 201, and nothing else."""
    registered(world, authorization_server)
    async with world.vault() as app:
        says(world, "200 OK")
        with pytest.raises(AlterSDKError):
            await app.create_auth_session()
        assert (await app.create_auth_session()).session_token


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"])
async def test_core_95_a_poll_rides_out_what_passes(world: World, authorization_server: AuthorizationServer, status: str):
    """Extended case 88; the wait is at most 25 s."""
    idp = registered(world, authorization_server)
    async with world.vault() as app:
        made = await app.create_auth_session()
        says(world, status)
        polling = asyncio.create_task(app.poll_auth_session(made.session_token, timeout=30, poll_interval=0.05))
        said = await asyncio.to_thread(goes, idp, made.auth_url, "bob")
        result = await polling
    assert "You are signed in" in said
    assert result.user_info["sub"] == "bob"
    bodies = [json.loads(each.body) for each in world.exchanges(path=POLL)]
    assert len(bodies) >= 2 and all(0 < body.get("wait_ms", 1) <= 25_000 for body in bodies)


async def test_core_95_a_poll_ends_at_what_does_not_pass(world: World, authorization_server: AuthorizationServer):
    """Extended case 90. To a session, no answer of ours is a 404: it is made one on the way."""
    registered(world, authorization_server)
    async with world.vault() as app:
        made = await app.create_auth_session()
        says(world, "404 Not Found")
        with pytest.raises(GrantNotFoundError):
            await app.poll_auth_session(made.session_token, timeout=30, poll_interval=0.05)
    assert len(world.exchanges(path=POLL)) == 1


async def test_core_95_sessions_of_nobody_and_of_others_have_expired(
    world: World, authorization_server: AuthorizationServer
):
    registered(world, authorization_server)
    async with world.vault() as app, world.other_app().vault() as other:
        made = await app.create_auth_session()
        for asking, token in ((other, made.session_token), (app, "auth_" + "A" * 43)):
            with pytest.raises((ConnectTimeoutError, AlterSDKError)) as ended:
                await asking.poll_auth_session(token, timeout=30, poll_interval=0.05)
            assert "expired" in str(ended.value)


async def test_core_95_what_went_wrong_is_told(world: World, authorization_server: AuthorizationServer):
    """Extended case 89: an identity provider that is down (503, when to try again), and one that was switched off (409)."""
    idp = registered(world, authorization_server)
    async with world.vault() as app:
        idp.client.fail({"kind": "status", "status": 503})
        made = await app.create_auth_session()
        await asyncio.to_thread(goes, idp, made.auth_url)
        with pytest.raises(BackendError) as down:
            await app.poll_auth_session(made.session_token, timeout=20, poll_interval=0.05)
        assert down.value.status_code == 503 and down.value.details["retry_after_seconds"] > 0
        made = await app.create_auth_session()
        visitor = idp.visitor()
        back = idp.client.server.consent(visitor.to_provider(visitor.open(made.auth_url)), "alice")
        world.api("PATCH", f"/identity-providers/{idp.id}", {"state": "inactive"})
        await asyncio.to_thread(visitor.get, back)
        with pytest.raises(BackendError) as off:
            await app.poll_auth_session(made.session_token, timeout=20, poll_interval=0.05)
        assert off.value.status_code == 409
        with pytest.raises(BackendError) as nobody:
            await app.create_auth_session()
        assert nobody.value.status_code == 400


async def test_core_96_verify_user_token(world: World, authorization_server: AuthorizationServer):
    """Extended case 91."""
    idp = registered(world, authorization_server)
    other = registered(world.other_app(), authorization_server)
    token, foreign = idp.token("alice"), other.token("alice")
    async with world.vault() as app:
        assert await app.verify_user_token(token) == "alice"
        for bad in (foreign, token[:-6] + "AAAAAA", with_header(token, alg="none"), "a.b.c", "x"):
            assert await app.verify_user_token(bad) is None
        world.api("POST", f"/users/{(await app.resolve_identity(user_token=token)).app_user_id}/suspend")
        assert await app.verify_user_token(token) is None
    answers = [each.answer for each in world.exchanges(path="/sdk/auth/verify-token")]
    assert answers[0].json() == {"sub": "alice"}
    assert {answer.status for answer in answers[1:]} == {401}


# Resolve and assert


async def test_core_97_who_a_user_is(world: World, authorization_server: AuthorizationServer):
    """Extended cases 80, 82 and 83."""
    idp = registered(world, authorization_server)
    token = idp.token("alice", "staff", "eng")
    async with world.vault() as app:
        bare = await app.resolve_identity(user_token=token)
        full = await app.resolve_identity(user_token=token, include_profile=True)
        with pytest.raises(ReAuthRequiredError):
            await app.resolve_identity(user_token=with_header(token, kid="nobody's"))
        world.api("POST", f"/users/{bare.app_user_id}/suspend")
        with pytest.raises(ReAuthRequiredError) as suspended:
            await app.resolve_identity(user_token=token)
        assert check(suspended.value) == "user_suspended"
    assert (bare.email, bare.display_name) == (None, None)
    assert (full.email, full.display_name) == ("alice@example.test", "Account alice")
    user, groups = idp.user(), {group["id"]: group["external_group_id"] for group in world.api("GET", "/groups")["items"]}
    for told in (bare, full):
        assert (told.app_user_id, told.external_subject_id, told.idp_id) == (user["id"], "alice", idp.id)
        assert (told.user_status, told.agent_id) == ("active", None)
        assert sorted(groups[each] for each in told.group_ids) == ["eng", "staff"]


async def test_core_100_an_assertion_of_a_user_is_verified_by_the_client(
    world: World, authorization_server: AuthorizationServer
):
    """Extended case 84."""
    idp = registered(world, authorization_server)
    async with world.vault(user_token_getter=lambda: idp.token("alice")) as app:
        made = await app.assert_identity(audience=AUDIENCE, ttl_seconds=60, include_profile=True)
    body = json.loads(world.exchanges(path="/sdk/identity/assert")[0].body)
    assert (body["audience"], body["ttl_seconds"], body["include_profile"]) == (AUDIENCE, 60, True)
    jwks = http.call("GET", f"{world.server.url}/.well-known/jwks.json").json()
    verified = verify_identity_assertion(
        made.token, issuer=world.server.url, audience=AUDIENCE, jwks=jwks, expected_app_id=world.app_id
    )
    user = idp.user()
    assert (verified.app_user_id, made.identity.app_user_id) == (user["id"], user["id"])
    assert part(made.token, 1)["sub"] == f"alter:user:{user['id']}"
    assert made.identity.email == "alice@example.test"


async def test_ext_82_bad_tokens_say_what_is_wrong_with_them(world: World, authorization_server: AuthorizationServer):
    idp = registered(world, authorization_server)
    other = registered(world.other_app(), authorization_server)
    token = idp.token("alice")
    header, claims, signature = token.split(".")
    twice = encoded(b'{"alg":"RS256","alg":"none"}')
    now = int(time.time())

    def padded(size: int) -> str:
        return f"{header}.{claims}{'A' * (size - len(token))}.{signature}"

    # What is changed is not what was signed; all but the last ones are found out before that is looked at. One that is too
    # large the client sends with a request alone.
    cases = [
        ("form", "a.b.c"),
        ("form", padded(8192)),
        ("encrypted", f"{token}.a.b"),
        ("encrypted", with_header(token, enc="A256GCM")),
        ("duplicate", f"{twice}.{claims}.{signature}"),
        ("crit", with_header(token, crit=["exp"])),
        ("typ", with_header(token, typ="logout+jwt")),
        ("alg", with_header(token, alg="HS256")),
        ("alg", with_header(token, alg="none")),
        ("issuer", with_claims(token, iss=f"{idp.issuer}/")),
        ("audience", other.token("alice")),
        ("expired", with_claims(token, exp=now - 120)),
        ("not_yet_valid", with_claims(token, nbf=now + 3600)),
        ("subject", with_claims(token, sub="")),
        ("key", with_header(token, kid="../../etc/passwd")),
        ("signature", with_header(token, jku=f"{idp.issuer}/jwks", x5u="https://evil.example/x5u")),
        ("signature", with_claims(token, sub="bob")),
        ("signature", f"{header}.{claims}.{'A' * len(signature)}"),
    ]
    async with world.vault() as app:
        for wrong, bad in cases:
            with pytest.raises(ReAuthRequiredError) as refused:
                await app.resolve_identity(user_token=bad)
            assert check(refused.value) == wrong
            assert bad not in json.dumps(refused.value.details)
        with pytest.raises(ReAuthRequiredError) as refused:
            await app.request("GET", world.corner.url(), provider="any", user_token=padded(8193))
        assert check(refused.value) == "size"
    assert world.api("GET", "/users")["items"] == []
    assert len(world.events(kind="user_token.refused", outcome="denied")) == len(cases)


# Whose grant it is


async def test_core_33_a_users_own_grant_is_found(world: World, authorization_server: AuthorizationServer):
    idp, secret = registered(world, authorization_server), world.secret()
    alice, bob = idp.token("alice"), idp.token("bob")
    async with world.vault() as app:
        grants = {}
        for name, token in (("alice", alice), ("bob", bob)):
            principal = UserPrincipal(user_token=token, label=name)
            grants[name] = (await app.create_managed_secret_grant(secret.id, principal=principal)).grant_id
        for name, token in (("alice", alice), ("bob", bob)):
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=token)
            assert world.exchanges(path=TOKEN)[-1].answer.json()["grant_id"] == grants[name]
        # The label narrows; another's grant is not there.
        await app.request("GET", world.corner.url(), provider=secret.slug, label="alice", user_token=alice)
        for wanted in ({"provider": secret.slug, "label": "bob"}, {"grant_id": grants["bob"]}):
            with pytest.raises(GrantNotFoundError):
                await app.request("GET", world.corner.url(), user_token=alice, **wanted)
        # The app's own grant is nobody's.
        with pytest.raises(BackendError) as own:
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id, user_token=alice)
        assert (own.value.status_code, own.value.details["error"]) == (403, "system_grant_user_token_mismatch")
        with pytest.raises(GrantNotFoundError) as none:
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=idp.token("carol"))
        assert none.value.details["provider_id"] == secret.slug
        assert none.value.details["app_user_id"] == idp.user("carol")["id"]
    async with world.vault(user_token_getter=lambda: alice) as app:
        with pytest.raises(GrantNotFoundError):
            await app.revoke_grant(grants["bob"])
        assert (await app.revoke_grant(grants["alice"])).grant_id == grants["alice"]


async def test_core_54_several_grants_of_a_user(world: World, authorization_server: AuthorizationServer):
    idp, secret = registered(world, authorization_server), world.secret()
    alice, bob = idp.token("alice"), idp.token("bob")
    async with world.vault() as app:
        made = {}
        for label, token in (("work", alice), ("home", alice), ("work of bob", bob)):
            principal = UserPrincipal(user_token=token, label=label)
            made[label] = (await app.create_managed_secret_grant(secret.id, principal=principal)).grant_id
        with pytest.raises(AmbiguousGrantError) as several:
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=alice)
        error = several.value
        assert {each.label: each.grant_id for each in error.candidates} == {"work": made["work"], "home": made["home"]}
        assert sorted(error.grant_ids) == sorted([made["work"], made["home"]])
        assert error.provider_id == secret.slug and error.candidates_truncated is False
        assert error.account_was_provided is False
        await app.request("GET", world.corner.url(), provider=secret.slug, label="home", user_token=alice)
        assert world.exchanges(path=TOKEN)[-1].answer.json()["grant_id"] == made["home"]


async def test_core_80_a_user_lists_what_is_theirs(world: World, authorization_server: AuthorizationServer):
    idp, secret = registered(world, authorization_server), world.secret()
    alice = idp.token("alice")
    async with world.vault(user_token_getter=lambda: alice) as app:
        own = await app.create_managed_secret_grant(
            secret.id, principal=UserPrincipal(user_token=alice, label="own")
        )
        assert [grant.grant_id for grant in (await app.list_grants()).grants] == [own.grant_id]
    async with world.vault() as app:
        assert (await app.list_grants()).total == 2


async def test_core_83_principals_of_users_and_groups(world: World, authorization_server: AuthorizationServer):
    idp, secret = registered(world, authorization_server), world.secret()
    member, other = idp.token("alice", "eng"), idp.token("bob", "sales")
    async with world.vault() as app:
        # A group is one that somebody's token has told of.
        await app.resolve_identity(user_token=member)
        principal = GroupPrincipal(external_group_id="eng", idp_id=idp.id, label="team")
        made = await app.create_managed_secret_grant(secret.id, principal=principal)
        assert made.principal_type == "group"
        await app.request("GET", world.corner.url(), provider=secret.slug, user_token=member)
        assert world.exchanges(path=TOKEN)[-1].answer.json()["grant_id"] == made.grant_id
        with pytest.raises(GrantNotFoundError):
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=other)
        user = await app.create_managed_secret_grant(
            secret.id, principal=UserPrincipal(user_token=other, label="own")
        )
        assert user.principal_type == "user"
        system = await app.create_managed_secret_grant(secret.id, principal=SystemPrincipal(label="job"))
        assert system.principal_type == "system"


async def test_core_86_a_session_of_a_user(world: World, authorization_server: AuthorizationServer):
    idp, of = registered(world, authorization_server), played(world)
    alice, bob = idp.token("alice"), idp.token("bob")
    async with world.vault() as app:
        made = await session(app, of.provider_id, user_token=alice)
        visitor = of.visitor("alice")
        await asyncio.to_thread(lambda: visitor.connect(visitor.open(made.connect_url)))
        (result,) = await app.poll_connect_session(made.session_token, timeout=20, poll_interval=0.05)
        answer = await app.request("GET", of.api_url, provider=of.provider_id, user_token=alice)
        assert answer.json()["email"] == "alice@example.test"
        for wanted in ({"provider": of.provider_id}, {"grant_id": result.grant_id}):
            with pytest.raises(GrantNotFoundError):
                await app.request("GET", of.api_url, user_token=bob, **wanted)


async def test_core_56_whoever_is_deprovisioned_is_nobody(world: World, authorization_server: AuthorizationServer):
    """Extended case 81. Deprovisioning ends what the user has, and tokens from before prove nothing: no new user begins with one."""
    idp, secret = registered(world, authorization_server), world.secret()
    token = idp.token("alice")
    async with world.vault() as app:
        principal = UserPrincipal(user_token=token, label="own")
        made = await app.create_managed_secret_grant(secret.id, principal=principal)
        await app.request("GET", world.corner.url(), provider=secret.slug, user_token=token)
        world.api("POST", f"/users/{idp.user()['id']}/deprovision")
        with pytest.raises(ReAuthRequiredError) as refused:
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=token)
        assert check(refused.value) == "user_deprovisioned"
        with pytest.raises(GrantDeletedError) as deleted:
            await app.request("GET", world.corner.url(), grant_id=made.grant_id)
        assert (deleted.value.status_code, deleted.value.details["error"]) == (410, "grant_deleted")
        with pytest.raises(ReAuthRequiredError):
            await app.resolve_identity(user_token=token)
    assert [user["user_status"] for user in world.api("GET", "/users")["items"]] == ["deprovisioned"]


# Keys that change


async def _load(world: World, app: App, slug: str, tokens: list[str], done: asyncio.Event, refused: list) -> int:
    """Calls with the newest of the tokens until it is done; what was refused, with the token."""
    count = 0
    while not done.is_set():
        token = tokens[-1]
        try:
            await app.request("GET", world.corner.url(), provider=slug, user_token=token)
            count += 1
        except BackendError as error:
            refused.append((token, error))
    return count


async def test_keys_rotate_under_load(private_server, services, request):
    """Keys that were published before they sign cost no call. A key that was not is good within seconds, whoever asks and
    however often; meanwhile the others count, and the issuer is asked once in ten seconds at most."""
    keys = AuthorizationServer()
    try:
        server = private_server(env={"GRANTD_OUTBOUND_ALLOW": f"{services.outbound},{keys.authority}"})
        world = World(server, None, services, services.provider.corner(), request.node.originalname)
        keys.keys("publish")
        idp, secret = registered(world, keys), world.secret()
        first, began = idp.token("alice"), time.monotonic()
        async with world.vault(url=server.url) as app:
            principal = UserPrincipal(user_token=first, label="own")
            await app.create_managed_secret_grant(secret.id, principal=principal)
            tokens, done, refused = [first], asyncio.Event(), []
            workers = [asyncio.create_task(_load(world, app, secret.slug, tokens, done, refused)) for _ in range(4)]
            # The key that was published ahead signs, and the old one is published no more.
            keys.keys("sign")
            keys.keys("retire")
            ahead = await asyncio.to_thread(idp.token, "alice")
            assert part(ahead, 0)["kid"] != part(first, 0)["kid"]
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=ahead)
            tokens.append(ahead)
            assert keys.keys()["fetched"] == 1
            # One that nobody knew of signs.
            keys.keys("replace")
            new = await asyncio.to_thread(idp.token, "alice")
            forged = [with_header(new, kid=f"forged {n}") for n in range(20)]
            deadline = time.monotonic() + 40
            while True:
                for token in forged:
                    with pytest.raises(ReAuthRequiredError) as wrong:
                        await app.resolve_identity(user_token=token)
                    assert check(wrong.value) == "key"
                try:
                    await app.request("GET", world.corner.url(), provider=secret.slug, user_token=new)
                    break
                except ReAuthRequiredError as error:
                    assert check(error) == "key" and time.monotonic() < deadline
            # The old one is published yet, and counts.
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=ahead)
            tokens.append(new)
            keys.keys("retire")
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=new)
            done.set()
            counts = await asyncio.gather(*workers)
        assert refused == [] and all(counts)
        assert keys.keys()["fetched"] <= 2 + (time.monotonic() - began) / 10
    finally:
        keys.close()
