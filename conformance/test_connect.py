"""Cases 85 to 93: connect sessions, polls and the hosted pages, with the official client and somebody at a browser that
runs no scripts. `test_connect_browser.py` has the rest, in a real one."""

from __future__ import annotations

import asyncio
import datetime
import json
import secrets
from urllib.parse import urlencode

import pytest
from alter_sdk import (
    App,
    BackendError,
    BlockedDestinationError,
    ConnectConfigError,
    ConnectDeniedError,
    ConnectFlowError,
    ConnectTimeoutError,
    GrantNotFoundError,
    GrantRevokedError,
    OAuthGrantItem,
    ReAuthRequiredError,
    SiblingLabelConflictError,
)

from harness.authorization_server import AuthorizationServer, query_of
from harness.connecting import connect, played, poll, real, redirect_uri, session
from harness.quirks import Act, Quirks
from harness.visitor import Visitor
from harness.world import World

SESSION = "/sdk/oauth/connect/session"
POLL = f"{SESSION}/poll"
UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


def moment(value: object) -> datetime.datetime:
    return datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))


async def created(world: World, app: App, **options: object) -> dict:
    """The body with which the client asks for a session, and that it was answered."""
    made = await app.create_connect_session(**options)
    assert made.session_token.startswith("sess_")
    assert made.connect_url == f"{world.server.url}/sdk/oauth/connect#session={made.session_token}"
    return json.loads(world.exchanges(path=SESSION)[-1].body)


# Sessions


async def test_core_85_a_session_for_every_provider(world: World):
    played(world, provider_id="acme")
    played(world, provider_id="umbrella")
    async with world.vault() as app:
        body = await created(world, app)
        made = await app.create_connect_session()
    assert body == {"allowed_providers": None, "return_url": None, "allowed_origin": None, "metadata": None}
    assert (made.expires_in, made.single_provider, made.direct) == (600, False, False)
    assert world.exchanges(path=SESSION)[-1].answer.status == 201
    page = Visitor().open(made.connect_url)
    assert [href.partition("?provider=")[2] for href, _ in page.links if "?provider=" in href] == ["acme", "umbrella"]


async def test_core_85_without_a_provider_there_is_no_session(world: World):
    async with world.vault() as app:
        with pytest.raises(BackendError, match="not registered with any provider"):
            await app.create_connect_session()
        with pytest.raises(BackendError) as refused:
            await app.create_connect_session(allowed_providers=["google"])
    assert refused.value.details["provider_id"] == "google"
    assert "grantd providers create" in refused.value.details["hint"]


async def test_core_86_all_options(world: World):
    played(world)
    options = {
        "allowed_providers": [" Acme "],
        "return_url": "http://127.0.0.1:9/done",
        "allowed_origin": "http://127.0.0.1:9",
        "metadata": {"ip_address": "192.0.2.1", "user_agent": "x"},
        "grant_policy": {"default_ttl_seconds": 3600},
        "required_scopes": {"acme": ["read"]},
        "requested_grant": {"label": "nightly"},
        "switch_account": True,
        "direct": True,
        "allow_user_policy_rules": False,
    }
    async with world.vault() as app:
        body = await created(world, app, **options)
        made = await app.create_connect_session(**options)
    assert body["allow_user_policy_rules"] is False
    assert body["switch_account"] is True
    assert body["requested_grant"] == {"label": "nightly"}
    assert (made.single_provider, made.direct) == (True, True)


@pytest.mark.parametrize(
    "options",
    [
        {"agent": UNKNOWN},
        {"requested_grant": {"label": "x", "restrictions": {"allowed_methods": ["GET"]}}},
    ],
)
async def test_core_86_options_of_parts_that_are_not_built_are_not_ignored(world: World, options: dict):
    played(world)
    async with world.vault() as app:
        with pytest.raises(BackendError) as refused:
            await session(app, "acme", **options)
    assert refused.value.details["error"] == "feature_unavailable"


async def test_core_86_a_session_for_nobody(world: World):
    played(world)
    async with world.vault() as app:
        with pytest.raises(ReAuthRequiredError):
            await session(app, "acme", user_token="x.y.z")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"allowed_providers": []}, "invalid_request"),
        ({"allowed_providers": ["acme", "x"] * 60}, "invalid_request"),
        ({"return_url": "http://app.example.com/"}, "invalid_redirect_uri"),
        ({"return_url": "javascript:alert(1)"}, "invalid_redirect_uri"),
        ({"allowed_origin": "https://app.example.com/x"}, "invalid_request"),
        ({"allowed_origin": "*"}, "invalid_request"),
        ({"metadata": {"user_agent": "x" * 3000}}, "invalid_request"),
        ({"requested_grant": {"label": ""}}, "invalid_value"),
        ({"requested_grant": {"label": "x" * 256}}, "invalid_value"),
        ({"required_scopes": {"other": ["x"]}}, "invalid_request"),
        ({"required_scopes": {"acme": ["two words"]}}, "scope_not_allowed"),
        ({"repair_grant_id": UNKNOWN}, "grant_not_found"),
        ({"repair_grant_id": "x", "switch_account": True}, "invalid_request"),
    ],
)
def test_core_86_what_no_session_can_be_for(world: World, body: dict, code: str):
    played(world)
    whole = {"allowed_providers": ["acme"], "return_url": None, "allowed_origin": None, "metadata": None, **body}
    answer = world.send(world.signed("POST", SESSION, whole))
    status = {"grant_not_found": 404, "invalid_value": 422}.get(code, 400)
    assert (answer.status, answer.error) == (status, code), answer


async def test_core_86_a_provider_of_another_app_is_none(world: World):
    played(world)
    async with world.other_app().vault() as app:
        with pytest.raises(BackendError, match="acme"):
            await session(app, "acme")


# From the link to the grant


@pytest.mark.parametrize("auth", ["client_secret_basic", "client_secret_post"])
async def test_core_87_an_account_of_a_real_server(world: World, authorization_server: AuthorizationServer, auth: str):
    of = real(world, authorization_server, auth=auth)
    async with world.vault() as app:
        made = await session(app, "real")
        visitor = of.visitor("alice")
        consent = visitor.open(made.connect_url)
        assert "Example Accounts" in consent.heading
        link = visitor.to_provider(consent)
        asked = query_of(link)
        assert asked["redirect_uri"] == redirect_uri(world)
        assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
        assert set(asked["scope"].split()) == {"openid", "email", "mail.read"}
        done = visitor.get(of.client.server.consent(link, "alice"))
        assert done.heading == "Example Accounts is connected"
        (result,) = await poll(app, made)
        assert (result.provider_id, result.account_identifier, result.operation) == ("real", "alice", "creation")
        assert set(result.scopes) == {"openid", "email", "mail.read"}
        answer = await app.request("GET", of.api_url, grant_id=result.grant_id)
        assert answer.json()["account"] == "alice"
    assert [(c["grant_type"], c["status"], c["auth"]) for c in of.client.calls()] == [("authorization_code", 200, auth)]


async def test_core_87_pending_with_a_decline_then_completed(world: World):
    one, other = played(world, provider_id="acme"), played(world, provider_id="umbrella")
    events: list = []
    async with world.vault() as app:
        made = await app.create_connect_session(allowed_providers=["acme", "umbrella"])
        polling = asyncio.ensure_future(poll(app, made, events))
        visitor = one.visitor()
        picker = await asyncio.to_thread(visitor.open, made.connect_url)
        consent = await asyncio.to_thread(visitor.get, picker.link("Umbrella"))
        await asyncio.to_thread(visitor.submit, consent, "decline")
        # Reported while the session is open, once.
        while not events:
            await asyncio.sleep(0.02)
        picker = await asyncio.to_thread(visitor.get, picker.url)
        consent = await asyncio.to_thread(visitor.get, picker.link("Acme"))
        picker = await asyncio.to_thread(visitor.connect, consent)
        assert not polling.done()
        if picker.forms:
            await asyncio.to_thread(visitor.submit, await asyncio.to_thread(visitor.get, picker.url), "finish")
        (result,) = await polling
    assert result.provider_id == "acme"
    assert [event["provider_id"] for event in events] == ["umbrella"]
    assert events[0]["error_code"] == "connect_denied"
    assert [failed.reason for failed in result.failed_grants] == ["not_selected"]
    assert other.provider.calls == []


async def test_core_88_an_unknown_session_has_expired(world: World):
    async with world.vault() as app:
        with pytest.raises(ConnectFlowError) as never:
            await app.poll_connect_session(f"sess_{secrets.token_urlsafe(32)}", timeout=5, poll_interval=0.05)
    assert not isinstance(never.value, ConnectTimeoutError)
    assert world.exchanges(path=POLL)[-1].answer.json() == {"status": "expired"}


async def test_core_88_a_session_of_another_app_is_unknown(world: World):
    played(world)
    other = world.other_app()
    async with world.vault() as app, other.vault() as stranger:
        made = await session(app, "acme")
        with pytest.raises(ConnectFlowError):
            await poll(stranger, made)


async def test_core_88_a_session_that_expires_while_it_is_polled(private_world: World):
    world = private_world
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        consent = await asyncio.to_thread(visitor.open, made.connect_url)
        link = await asyncio.to_thread(visitor.to_provider, consent)
        polling = asyncio.ensure_future(poll(app, made))
        # A request on its way to the server could still find the session expired, and then nothing has ended while it was polled.
        while not any(e.answer for e in world.exchanges(path=POLL)):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(world.server.sql, "UPDATE connect_sessions SET expires_at_ms = created_at_ms")
        with pytest.raises(ConnectTimeoutError) as late:
            await polling
        assert late.value.details["reason"] == "session_expired"
        # Nor does anybody get in with it, from the link or from the provider.
        back = await asyncio.to_thread(of.visitor().consents, link)
        assert (await asyncio.to_thread(visitor.get, back)).status == 410
        assert (await asyncio.to_thread(visitor.get, consent.url)).status == 410
        assert (await asyncio.to_thread(Visitor().open, made.connect_url)).status in (403, 410)
    assert of.provider.made("token") == []


async def test_core_89_who_says_no_at_the_provider(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor(denies="access_denied")
        page = visitor.connect(visitor.open(made.connect_url))
        assert "othing was connected" in page.heading
        with pytest.raises(ConnectDeniedError):
            await poll(app, made)


async def test_core_89_who_says_no_here(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        assert "othing was connected" in visitor.submit(visitor.open(made.connect_url), "decline").heading
        with pytest.raises(ConnectDeniedError):
            await poll(app, made)
    assert of.provider.calls == []


@pytest.mark.parametrize(
    ("denies", "code"),
    [
        ("unauthorized_client", "unauthorized_client"),
        ("invalid_scope", "connect_config_error"),
    ],
)
async def test_core_89_the_provider_does_not_know_this_app(world: World, denies: str, code: str):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor(denies=denies)
        visitor.connect(visitor.open(made.connect_url))
        with pytest.raises(ConnectConfigError) as wrong:
            await poll(app, made)
    assert wrong.value.details["error_code"] == code


async def test_core_89_a_wrong_client_secret(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server)
    world.api("PATCH", "/providers/real", {"client_secret": "another"})
    async with world.vault() as app:
        made = await session(app, "real")
        visitor = of.visitor()
        visitor.connect(visitor.open(made.connect_url))
        with pytest.raises(ConnectConfigError) as wrong:
            await poll(app, made)
    assert wrong.value.details["error_code"] == "invalid_client"


async def test_core_89_a_provider_that_is_down(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        consent = visitor.open(made.connect_url)
        of.provider.play(Act("status", status=503))
        failed = visitor.connect(consent)
        assert "does not answer" in failed.heading
        # The user may try again, and here does not.
        visitor.submit(failed, "finish")
        with pytest.raises(BackendError) as down:
            await poll(app, made)
    assert down.value.status_code == 503


async def test_core_89_who_tries_again_gets_there(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        of.provider.play(Act("html", status=502))
        failed = visitor.connect(visitor.open(made.connect_url))
        again = visitor.get(failed.link("Try again"))
        assert visitor.connect(again).heading == "Acme is connected"
        assert (await poll(app, made))[0].account_identifier == "id-alice"


@pytest.mark.parametrize("act", ["garbage", "empty", "no_token", "html"])
async def test_core_89_an_answer_that_is_no_token(world: World, act: str):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        of.provider.play(Act(act))
        failed = visitor.connect(visitor.open(made.connect_url))
        assert failed.status == 200 and failed.link("Try again")
        visitor.submit(failed, "finish")
        with pytest.raises((ConnectFlowError, BackendError)) as wrong:
            await poll(app, made)
    assert "Bad Gateway" not in str(wrong.value.details), "what a provider says is not passed on"


async def test_core_91_a_limit_is_waited_out(world: World):
    of = played(world)
    slow = world.mint(rate_limit_rpm=60)
    async with world.vault(slow) as app:
        made = await session(app, "acme")
        polling = asyncio.ensure_future(app.poll_connect_session(made.session_token, timeout=30, poll_interval=0.01))
        while not any(e.answer and e.answer.status == 429 for e in world.exchanges(slow, path=POLL)):
            await asyncio.sleep(0.02)
        visitor = of.visitor()
        await asyncio.to_thread(lambda: visitor.connect(visitor.open(made.connect_url)))
        (result,) = await polling
    assert result.provider_id == "acme"


async def test_core_93_connect_returns_the_results(world: World, capsys: pytest.CaptureFixture):
    of = played(world)
    async with world.vault() as app:
        connecting = asyncio.ensure_future(
            app.connect(providers=["acme"], open_browser=False, timeout=30, poll_interval=0.05)
        )
        while not (made := world.exchanges(path=SESSION)) or made[-1].answer is None:
            await asyncio.sleep(0.02)
        url = made[-1].answer.json()["connect_url"]
        visitor = of.visitor()
        await asyncio.to_thread(lambda: visitor.connect(visitor.open(url)))
        (result,) = await connecting
    assert result.account_identifier == "id-alice"
    assert url in capsys.readouterr().out


# Whose session it is


async def test_a_session_belongs_to_the_browser_that_opened_it(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        mine, other = of.visitor("alice"), of.visitor("mallory")
        consent = mine.open(made.connect_url)
        assert other.open(made.connect_url).status == 403
        assert other.get(consent.url).status == 403
        assert other.post(consent.form("start").action, consent.form("start").fields).status == 403
        # Nor with what the first one's provider gave, or a link that mallory began.
        back = mine.consents(mine.to_provider(consent))
        assert other.get(back).status == 403
        assert of.provider.made("token") == []
        assert mine.get(back).heading == "Acme is connected"
        assert (await poll(app, made))[0].account_identifier == "id-alice"


async def test_an_answer_of_the_provider_counts_once(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        back = visitor.consents(visitor.to_provider(visitor.open(made.connect_url)))
        first = visitor.get(back)
        again = visitor.get(back)
        assert first.heading == "Acme is connected"
        assert again.status in (200, 410)
        assert len(await poll(app, made)) == 1
    assert len(of.provider.made("token")) == 1


async def test_a_form_without_its_token_changes_nothing(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        consent = visitor.open(made.connect_url)
        for action in ("start", "decline"):
            assert visitor.submit(consent, action, csrf="x").status == 400
        foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        form = consent.form("decline")
        assert visitor.post(form.action, form.fields, **foreign).status == 400
        assert visitor.connect(consent).heading == "Acme is connected"


@pytest.mark.parametrize(
    "query", ["", "state=x&code=y", "error=access_denied", "state=a&state=b", f"state={'x' * 9000}"]
)
def test_an_answer_that_nobody_waits_for(world: World, query: str):
    page = Visitor().get(f"{redirect_uri(world)}?{query}")
    assert page.status in (400, 410), page.answer
    assert page.heading


async def test_an_answer_of_another_issuer_is_refused(world: World):
    of = played(world, Quirks(sends_iss=True))
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        back = visitor.consents(visitor.to_provider(visitor.open(made.connect_url)))
        own = urlencode({"iss": f"{of.provider.lab.url}/{of.provider.name}"})
        assert own in back
        failed = visitor.get(back.replace(own, urlencode({"iss": "https://evil.example"})))
        assert "connected" not in failed.heading or "not" in failed.heading
        assert of.provider.made("token") == []
        assert visitor.connect(visitor.get(failed.link("Try again"))).heading == "Acme is connected"


# The same account again


async def test_the_same_account_again_keeps_its_grant(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server)
    async with world.vault() as app:
        first = await connect(app, of, "alice")
        again = await connect(app, of, "alice")
        other = await connect(app, of, "bob")
        assert (first.grant_id, again.result.operation) == (again.grant_id, "reauth")
        assert other.grant_id != first.grant_id and other.result.operation == "creation"
        for made, account in ((first, "alice"), (other, "bob")):
            assert (await app.request("GET", of.api_url, grant_id=made.grant_id)).json()["account"] == account
        page = await app.list_grants()
    assert {type(item) for item in page.grants} == {OAuthGrantItem}
    assert {(item.grant_id, item.account_identifier) for item in page.grants} == {
        (first.grant_id, "alice"),
        (other.grant_id, "bob"),
    }
    assert "connected again" in again.page.heading


async def test_a_label_makes_a_sibling(world: World):
    of = played(world)
    async with world.vault() as app:
        plain = await connect(app, of)
        labelled = await connect(app, of, requested_grant={"label": "nightly"})
        again = await connect(app, of, requested_grant={"label": "nightly"})
        page = await app.list_grants(label="nightly")
    assert plain.grant_id != labelled.grant_id == again.grant_id
    assert [item.grant_id for item in page.grants] == [labelled.grant_id]


async def test_core_83_a_minted_sibling_stands_on_the_same_account(world: World):
    of = played(world)
    async with world.vault() as app:
        source = await connect(app, of)
        minted = await app.mint_grant(source.grant_id, label="reports", grant_policy={"max_ttl_seconds": 3600})
        assert minted.grant_id != source.grant_id
        assert (minted.provider_id, minted.account_identifier, minted.label) == ("acme", "id-alice", "reports")
        assert minted.grant_policy is not None
        answer = await app.request("GET", of.api_url, grant_id=minted.grant_id)
        assert answer.json()["email"] == "alice@example.test"
        with pytest.raises(SiblingLabelConflictError) as taken:
            await app.mint_grant(source.grant_id, label="reports")
        assert taken.value.label == "reports"
        with pytest.raises(GrantNotFoundError):
            await app.mint_grant(UNKNOWN, label="x")
        # Each ends alone; the account's tokens end with the last.
        await app.revoke_grant(source.grant_id)
        assert (await app.request("GET", of.api_url, grant_id=minted.grant_id)).status_code == 200
        with pytest.raises(GrantRevokedError):
            await app.request("GET", of.api_url, grant_id=source.grant_id)
    assert of.provider.is_alive


async def test_core_83_no_sibling_outlives_its_source(world: World):
    of = played(world)
    async with world.vault() as app:
        source = await connect(app, of, grant_policy={"default_ttl_seconds": 3600})
        end = moment(source.result.grant_policy.expires_at)
        for label, policy in (
            ("same", None),
            ("longer", {"max_ttl_seconds": 7200}),
            ("shorter", {"max_ttl_seconds": 60}),
        ):
            minted = await app.mint_grant(source.grant_id, label=label, grant_policy=policy)
            own = moment(minted.grant_policy["expires_at"])
            assert (own < end) is (label == "shorter")
            assert own <= end
        with pytest.raises(BackendError) as wrong:
            await app.mint_grant(source.grant_id, label="never", grant_policy={"max_ttl_seconds": 0})
    assert wrong.value.details["error"] == "invalid_grant_policy"


async def test_a_lifetime_shows_in_result_and_list(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await connect(app, of, grant_policy={"default_ttl_seconds": 3600})
        (item,) = (await app.list_grants()).grants
    assert made.result.grant_policy.expires_at is not None
    assert item.grant_expires_at is not None


async def test_less_than_is_required_is_not_connected(world: World):
    of = played(world, Quirks(refused_scopes=frozenset({"write"})))
    async with world.vault() as app:
        made = await session(app, "acme", required_scopes={"acme": ["write"]})
        visitor = of.visitor()
        partial = visitor.connect(visitor.open(made.connect_url))
        assert "needs a little more" in partial.heading
        assert "write" in partial.text
        # The user allows it after all.
        of.provider.quirks = Quirks()
        done = visitor.get(visitor.consents(visitor.to_provider(partial)))
        assert done.heading == "Acme is connected"
        (result,) = await poll(app, made)
        assert set(result.scopes) == {"read", "write"}
        # What nobody requires may be left out.
        of.provider.quirks = Quirks(refused_scopes=frozenset({"write"}))
        assert (await connect(app, of, "bob")).result.scopes == ["read"]


async def test_hosts_of_a_token_are_those_of_its_provider(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await connect(app, of)
        with pytest.raises(BlockedDestinationError):
            await app.request("GET", world.corner.url(), grant_id=made.grant_id)
        answer = await app.request("GET", of.api_url, grant_id=made.grant_id)
        assert answer.json()["email"] == "alice@example.test"
    assert world.corner.seen == []


async def test_revoking_the_last_grant_ends_the_tokens_at_the_provider(
    world: World, authorization_server: AuthorizationServer
):
    of = real(world, authorization_server)
    async with world.vault() as app:
        made = await connect(app, of)
        assert [grant["account"] for grant in of.client.grants()] == ["alice"]
        await app.revoke_grant(made.grant_id)
        with pytest.raises(GrantRevokedError):
            await app.request("GET", of.api_url, grant_id=made.grant_id)
        for _ in range(400):
            if not of.client.grants():
                break
            await asyncio.sleep(0.05)
    assert of.client.grants() == []
    assert [call["status"] for call in of.client.calls("revocation")] == [200]


# What pages say and hide


async def test_names_of_others_are_text(world: World):
    hostile = "<img src=x onerror=alert(1)>\"'\u202egnp.exe"
    world.update_app(name=f"{hostile[:20]} {secrets.token_hex(4)}")
    of = played(world, name='<script>alert("x")</script>', texts={"read": f"Read {hostile}"})
    async with world.vault() as app:
        made = await session(app, "acme")
        visitor = of.visitor()
        pages = [visitor.open(made.connect_url)]
        assert "Read <img src=x onerror=alert(1)>\"'gnp.exe" in pages[0].text, "what a scope opens is told in words"
        pages.append(visitor.connect(pages[0]))
    for page in pages:
        raw = page.answer.body.decode()
        assert "<img src=x" not in raw and '<script>alert("x")' not in raw and "\u202e" not in raw
        assert '<script>alert("x")</script>' in page.text


async def test_every_page_carries_the_same_guards(world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme", return_url="https://app.example.com/done?x=1")
        visitor = of.visitor()
        first = visitor.get(made.connect_url)
        consent = visitor.open(made.connect_url)
        done = visitor.connect(consent)
    for page in (first, consent, done, visitor.get(f"{world.server.url}/connect/{UNKNOWN}")):
        assert page.policy["default-src"] == ["'none'"]
        assert page.policy["script-src"] == ["'self'"]
        assert page.policy["form-action"] == ["'self'"]
        assert page.policy["frame-ancestors"] == ["'none'"]
        assert page.answer.header("Cache-Control") == "no-store"
        assert page.answer.header("Referrer-Policy") == "no-referrer"
        assert page.answer.header("X-Content-Type-Options") == "nosniff"
        assert page.answer.header("Cross-Origin-Opener-Policy") in (None, "unsafe-none")
        assert made.session_token not in page.answer.body.decode()
    assert not any(made.session_token in url for url in visitor.visited)
    assert done.data["return"].startswith("https://app.example.com/done?x=1&alter_connect_success=true&grant_id=")


async def test_the_first_page_is_there_with_two_slashes(world: World):
    """The browser client appends its path to a base URL as it is, with a slash at its end or not."""
    for path in ("/sdk/oauth/connect", "//sdk/oauth/connect"):
        assert Visitor().get(f"{world.server.url}{path}").status == 200


async def test_connecting_is_audited_without_a_secret(world: World, authorization_server: AuthorizationServer):
    of = real(world, authorization_server)
    async with world.vault() as app:
        made = await connect(app, of)
    events = world.events()
    kinds = [event["kind"] for event in events]
    for kind in ("connect.created", "connect.opened", "connect.done", "grant.created"):
        assert kind in kinds, kinds
    done = next(event for event in events if event["kind"] == "connect.done")
    assert (done["grant_id"], done["provider_id"]) == (made.grant_id, "real")
    assert of.client.secret not in json.dumps(events)
