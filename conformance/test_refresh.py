"""Tokens of connected accounts after the first hour: renewed lazily, by one of many, and never lost. Cases 40, 55, 92.

Against a real authorization server whose refresh tokens rotate, and that ends everything when one comes twice; and
against the quirks lab, for what real ones do beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable

import pytest
from alter_sdk import (
    App,
    BackendError,
    CredentialRevokedError,
    ProviderUnauthorizedError,
    ReAuthRequiredError,
    ScopeReauthRequiredError,
    TokenRefreshInProgressError,
)

from harness.authorization_server import AuthorizationServer
from harness.connecting import Played, Real, connect, played, poll, real
from harness.quirks import BEHAVIOURS, Act, Quirks
from harness.server import Grantd
from harness.world import Services, World

# Shorter than any margin: every call after it needs a new token.
ACCESS_SECONDS = 1
CALLERS = 24
RENEWALS = {"sqlite": 200, "postgres": 1000}
ACCOUNTS = 32
CALLERS_IN_ALL = 64
CALL_EVERY_SECONDS = 0.4
RENEWALS_SECONDS_MAX = 180
# What can be said of a custom provider; the others are in the catalogue alone.
CUSTOM = [
    name
    for name, of in BEHAVIOURS.items()
    if of.body == "form" and of.client_id == "client_id" and not of.nested and not of.refresh_apart
    and of.refresh not in ("none", "exchange") and not of.code_suffix and of.failure != "ok_false"
]  # fmt: skip


async def ended() -> None:
    """Until an access token that was issued before has ended: only time brings that about.

    The server renews by itself, too, whatever ends within minutes, whenever it gets to it: a test must not care which
    of the two it was. So faults are there before a token ends and stay until the test has seen them, and what is
    counted is what holds either way.
    """
    await asyncio.sleep(ACCESS_SECONDS + 0.05)


async def outage(app: App, of: Real | Played, grant_id: str) -> BackendError:
    """The call fails for now, and says nothing about the account."""
    with pytest.raises(BackendError) as raised:
        await call(app, of, grant_id)
    assert not isinstance(raised.value, ReAuthRequiredError), raised.value.details
    return raised.value


async def call(app: App, of: Real | Played, grant_id: str) -> dict:
    answer = await app.request("GET", of.api_url, grant_id=grant_id)
    return answer.json()


async def test_a_token_is_renewed_when_it_has_ended(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of)
        for turn in range(1, 4):
            await ended()
            assert (await call(app, of, made.grant_id))["account"] == "alice"
            assert len(of.client.refreshes()) >= turn
    assert_each_was_used_once(of)


def assert_each_was_used_once(of: Real) -> None:
    refreshes = of.client.refreshes()
    digests = [refresh["refresh_token_digest"] for refresh in refreshes]
    assert len(set(digests)) == len(digests), "a refresh token was used twice"
    assert_each_succeeded(refreshes)


def assert_each_succeeded(refreshes: list[dict]) -> None:
    # The server renews by itself, too: one that it has just begun has no status yet.
    assert {refresh["status"] for refresh in refreshes if refresh["ended"]} == {200}


async def test_many_callers_share_one_renewal(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of)
        # What it is renewed to outlives this test, and renewing takes long enough for all callers to come.
        of.client.configure(access_token_seconds=3600)
        of.client.fail({"kind": "slow", "seconds": 0.5, "always": True})
        await ended()
        answers = await asyncio.gather(*(call(app, of, made.grant_id) for _ in range(CALLERS)))
    assert {answer["account"] for answer in answers} == {"alice"}
    assert len(of.client.refreshes()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429, "retry_after": 1},
        {"kind": "status", "status": 502, "body": "<html>bad gateway</html>"},
        {"kind": "status", "status": 400, "body": {"error": "temporarily_unavailable"}},
        {"kind": "drop"},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}".strip(),
)
async def test_an_outage_loses_nothing(world: World, authorization_server: AuthorizationServer, fault: dict):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of)
        of.client.fail({**fault, "always": True})
        await ended()
        assert (await outage(app, of, made.grant_id)).status_code in (502, 503)
        of.client.fail()
        assert (await back(app, of, made.grant_id))["account"] == "alice"
        (item,) = (await app.list_grants()).grants
        assert (item.status, item.needs_reconnect) == ("active", False)


async def back(app: App, of: Real | Played, grant_id: str, seconds: float = 20) -> dict:
    """Asks until the server tries again: it leaves a token endpoint alone for a while after a failure."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call(app, of, grant_id)
        except ReAuthRequiredError:
            raise
        except BackendError:
            assert time.monotonic() < deadline, f"not back within {seconds} s"
            await asyncio.sleep(0.2)


async def test_core_55_a_renewal_that_takes_too_long(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of)
        of.client.fail({"kind": "hang", "always": True})
        await ended()
        # Who comes while an attempt is under way is told to come again; between two, that one failed.
        deadline = time.monotonic() + 60
        while not isinstance(told := await outage(app, of, made.grant_id), TokenRefreshInProgressError):
            assert told.status_code in (502, 503), told.details
            assert time.monotonic() < deadline, "nobody was told that an attempt is under way"
            await asyncio.sleep(0.2)
        assert told.status_code == 409
        (item,) = (await app.list_grants()).grants
        assert (item.status, item.needs_reconnect) == ("active", False)


async def test_a_lost_answer_of_a_strict_provider_needs_the_user_and_says_so(
    world: World, authorization_server: AuthorizationServer
):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of)
        of.client.fail({"kind": "lost", "always": True})
        await ended()
        await outage(app, of, made.grant_id)
        of.client.fail()
        with pytest.raises(CredentialRevokedError) as broken:
            await back(app, of, made.grant_id)
        assert broken.value.grant_id == made.grant_id
        (item,) = (await app.list_grants()).grants
        assert item.needs_reconnect is True


async def test_a_lost_answer_of_a_lenient_provider_costs_nothing(world: World):
    of = played(world, Quirks(refresh="single_use", grace_seconds=60, access_seconds=ACCESS_SECONDS))
    async with world.vault() as app:
        made = await connect(app, of)
        of.provider.play(Act("close", after=True, always=True))
        await ended()
        await outage(app, of, made.grant_id)
        of.provider.play()
        assert (await back(app, of, made.grant_id))["email"] == "alice@example.test"
    assert {c.error for c in of.provider.refreshes} == {None}
    assert of.provider.is_alive


@pytest.mark.one_engine
@pytest.mark.parametrize("act", ["html", "garbage", "empty", "cut_off", "too_large", "no_token", "close"])
async def test_what_is_no_answer_ends_nothing(world: World, act: str):
    of = played(world, Quirks(access_seconds=ACCESS_SECONDS))
    async with world.vault() as app:
        made = await connect(app, of)
        of.provider.play(Act(act, always=True))
        await ended()
        await outage(app, of, made.grant_id)
        of.provider.play()
        assert (await back(app, of, made.grant_id))["email"] == "alice@example.test"
    assert of.provider.is_alive


@pytest.mark.one_engine
@pytest.mark.parametrize("name", CUSTOM)
async def test_every_behaviour_lasts(world: World, name: str):
    """Connects, and renews twice, with providers of each kind."""
    quirks = BEHAVIOURS[name]
    of = played(world, Quirks(**{**vars(quirks), "access_seconds": ACCESS_SECONDS}))
    async with world.vault() as app:
        made = await connect(app, of)
        assert (await call(app, of, made.grant_id))["email"] == "alice@example.test"
        if quirks.expires_in in ("number", "text"):
            for turn in (1, 2):
                await ended()
                assert (await call(app, of, made.grant_id))["email"] == "alice@example.test"
                assert len(of.provider.refreshes) >= turn
    assert of.provider.is_alive
    used = [each.params["refresh_token"] for each in of.provider.refreshes]
    assert quirks.refresh != "single_use" or len(set(used)) == len(used), "a refresh token was used twice"


async def test_a_token_that_says_no_lifetime_is_renewed_when_the_provider_refuses_it(world: World):
    of = played(world, Quirks(expires_in="absent", access_seconds=ACCESS_SECONDS))
    async with world.vault() as app:
        made = await connect(app, of)
        await ended()
        with pytest.raises(ProviderUnauthorizedError):
            await call(app, of, made.grant_id)
        # The client has reported it, behind its answer.
        for _ in range(200):
            try:
                assert (await call(app, of, made.grant_id))["email"] == "alice@example.test"
                break
            except ProviderUnauthorizedError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("the report changed nothing")
    assert of.provider.refreshes


async def test_core_92_who_ends_their_consent_at_the_provider_must_connect_again_and_keeps_the_grant(
    world: World, authorization_server: AuthorizationServer
):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of, "alice")
        other = await connect(app, of, "bob")
        of.client.revoke("alice")
        await ended()
        with pytest.raises(CredentialRevokedError) as over:
            await call(app, of, made.grant_id)
        assert (over.value.grant_id, over.value.provider_id) == (made.grant_id, "real")
        assert (await call(app, of, other.grant_id))["account"] == "bob"
        needs = {item.grant_id: item.needs_reconnect for item in (await app.list_grants()).grants}
        assert needs == {made.grant_id: True, other.grant_id: False}
        # Case 92: the client recovers from the error itself.
        again = await app.create_connect_session_for_error(over.value)
        visitor = of.visitor("alice")
        consent = visitor.open(again.connect_url)
        assert "enew" in consent.heading
        visitor.connect(consent)
        (result,) = await poll(app, again)
        assert (result.grant_id, result.operation) == (made.grant_id, "reauth")
        assert (await call(app, of, made.grant_id))["account"] == "alice"


async def test_core_92_another_account_repairs_nothing(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of, "alice")
        of.client.revoke("alice")
        await ended()
        with pytest.raises(CredentialRevokedError) as over:
            await call(app, of, made.grant_id)
        again = await app.create_connect_session_for_error(over.value)
        visitor = of.visitor("mallory")
        failed = visitor.connect(visitor.open(again.connect_url))
        assert "another" in failed.heading
        with pytest.raises(CredentialRevokedError):
            await call(app, of, made.grant_id)
        grants = [item.grant_id for item in (await app.list_grants()).grants]
    assert grants == [made.grant_id]


async def test_core_92_a_grant_that_is_gone_is_asked_for_without_it(
    world: World, authorization_server: AuthorizationServer
):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of, "alice")
        of.client.revoke("alice")
        await ended()
        with pytest.raises(CredentialRevokedError) as over:
            await call(app, of, made.grant_id)
        await app.revoke_grant(made.grant_id)
        before = len(world.exchanges(path="/sdk/oauth/connect/session"))
        assert (await app.create_connect_session_for_error(over.value)).session_token
    asked = world.exchanges(path="/sdk/oauth/connect/session")[before:]
    assert [exchange.answer.status for exchange in asked] == [404, 201]
    assert [b"repair_grant_id" in exchange.body for exchange in asked] == [True, False]


async def test_a_wrong_registration_blames_no_account(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    async with world.vault() as app:
        made = await connect(app, of)
        world.api("PATCH", "/providers/real", {"client_secret": "another"})
        await ended()
        await outage(app, of, made.grant_id)
        assert world.api("GET", "/providers/real")["problem"] == "invalid_client"
        (item,) = (await app.list_grants()).grants
        assert (item.status, item.needs_reconnect) == ("active", False)


async def test_core_40_scopes_that_the_provider_no_longer_honours(world: World):
    of = played(world, allowed_hosts=[world.services.quirky.authority, world.services.provider.authority])
    async with world.vault() as app:
        made = await connect(app, of)
        with pytest.raises(ScopeReauthRequiredError):
            await app.request("GET", world.corner.url("challenge", "/403"), grant_id=made.grant_id)
        # The report goes out behind the answer; from then on a plain 403 is taken for what it is.
        for _ in range(200):
            if (await app.list_grants()).grants[0].scope_mismatch:
                break
            await asyncio.sleep(0.05)
        with pytest.raises(ScopeReauthRequiredError) as plain:
            await app.request("GET", world.corner.url("status", "/403"), grant_id=made.grant_id)
        assert plain.value.missing_scopes is None


async def test_many_renewals_lose_no_grant(
    engine: str, private_server: Callable[..., Grantd], services: Services, authorization_server: AuthorizationServer
):
    """64 callers, on PostgreSQL at two replicas, and a provider that ends all when a token comes twice."""
    first = private_server()
    servers = [first, private_server(beside=first)] if engine == "postgres" else [first]
    world = World(first, None, services, services.provider.corner(), "many renewals")
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS)
    outcomes: Counter[str] = Counter()

    async def keep_calling(app: App, grant_id: str, account: str, enough: asyncio.Event) -> None:
        while not enough.is_set():
            try:
                assert (await call(app, of, grant_id))["account"] == account
                outcomes["ok"] += 1
            except ProviderUnauthorizedError:
                outcomes["ended on its way to the provider"] += 1
            except ReAuthRequiredError:
                raise
            except BackendError as busy:
                assert busy.status_code in (409, 503), busy.details
                outcomes[busy.details["error"]] += 1
            await asyncio.sleep(CALL_EVERY_SECONDS)

    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(world.vault(url=server.url)) for server in servers]
        accounts = [f"account-{n}" for n in range(ACCOUNTS)]
        grants = {account: (await connect(apps[0], of, account)).grant_id for account in accounts}
        enough = asyncio.Event()
        # Each account has callers at each of the replicas.
        work = [
            asyncio.ensure_future(keep_calling(apps[n // ACCOUNTS % len(apps)], grants[account], account, enough))
            for n, account in enumerate(accounts * (CALLERS_IN_ALL // ACCOUNTS))
        ]
        deadline = time.monotonic() + RENEWALS_SECONDS_MAX
        while len(of.client.refreshes()) < RENEWALS[engine] and time.monotonic() < deadline:
            done, _ = await asyncio.wait(work, timeout=0.5)
            if done:
                break
        enough.set()
        await asyncio.gather(*work)
        assert len(of.client.refreshes()) >= RENEWALS[engine], outcomes
        # Now and then a caller may be told to come again; nobody lives on that.
        assert outcomes["ok"] > 20 * (outcomes["busy"] + outcomes["token_refresh_in_progress"]), outcomes
        for account, grant_id in grants.items():
            assert (await back(apps[-1], of, grant_id))["account"] == account
    assert_each_was_used_once(of)
    assert {grant["account"] for grant in of.client.grants()} == set(accounts)


async def test_accounts_survive_a_restart_and_a_kill(private_world: World, authorization_server: AuthorizationServer):
    world = private_world
    # It does not rotate: a kill in the middle of a renewal is what the crash tests are about.
    of = real(world, authorization_server, access_token_seconds=ACCESS_SECONDS, rotates=False)
    async with world.vault(url=world.server.url) as app:
        made = (await connect(app, of)).grant_id
        for end in (world.server.stop, world.server.kill):
            await asyncio.to_thread(end)
            await asyncio.to_thread(world.server.restart)
            await ended()
            # A renewal that died with the process holds its lease for a minute: callers are told to come again.
            assert (await back(app, of, made, seconds=90))["account"] == "alice"
    assert_each_succeeded(of.client.refreshes())
