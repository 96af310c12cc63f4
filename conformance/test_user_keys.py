"""Case 98: a user gives their own key for a managed secret, with the official client and the hosted page, first to
somebody who runs no scripts and then in a real browser, where axe judges every page."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from alter_sdk import App, BackendError, ConnectConfigError, GrantNotFoundError, ReAuthRequiredError
from playwright.async_api import Page

from harness import canary
from harness.browser import DESKTOP, PHONE, Browsing, screenshot
from harness.issuer import Issuer
from harness.visitor import Visitor
from harness.world import Secret, World

SESSION = "/sdk/managed-secrets/connect/session"
UNKNOWN = "0198c0de-0000-7000-8000-000000000000"
DEVICES = {"desktop": DESKTOP, "phone": PHONE}


async def asked(app: App, secret: Secret, token: str, **options: object):
    return await app.create_managed_secret_connect_session(provider=secret.slug, user_token=token, **options)


async def told(app: App, session: object) -> object:
    (result,) = await app.poll_connect_session(session.session_token, timeout=20, poll_interval=0.1)
    return result


async def test_core_98_a_user_gives_a_key_and_the_app_calls_with_it(world: World):
    issuer, secret, key = Issuer(world), world.secret(), canary.token()
    token = issuer.token(email="mateo@example.com")
    async with world.vault() as app:
        made = await asked(app, secret, token, requested_grant={"label": "mine"}, allow_user_policy_rules=False)
        assert (made.path, made.existing_grant_id, made.secret_slug) == ("key_entry", None, secret.slug)
        assert (made.direct, made.delegable_requested, made.expires_in) == (False, False, 600)
        body = json.loads(world.exchanges(path=SESSION)[-1].body)
        assert body["allow_user_policy_rules"] is False and world.exchanges(path=SESSION)[-1].answer.status == 201
        visitor = Visitor()
        page = visitor.open(made.connect_url)
        assert "m…@example.com" in page.text and world.services.provider.authority in page.text
        # Nothing of what was sent is on the page that says what is wrong with it.
        bad = visitor.submit(page, "key", key=f"{key}\x01")
        assert (bad.status, key in bad.answer.body.decode()) == (422, False)
        done = visitor.submit(bad, "key", key=f" {key} ")
        assert "is connected" in done.heading and key not in done.answer.body.decode()
        assert not any(key in url or made.session_token in url for url in visitor.visited)
        result = await told(app, made)
        assert (result.provider_id, result.operation) == (secret.slug, "creation")
        answer = await app.request("GET", world.corner.url(), grant_id=result.grant_id, user_token=token)
        assert answer.json()["headers"]["authorization"] == f"Bearer {key}"
        by_name = await app.request("GET", world.corner.url(), provider=secret.slug, user_token=token)
        assert by_name.json()["headers"]["authorization"] == f"Bearer {key}"
        with pytest.raises(GrantNotFoundError):
            await app.request("GET", world.corner.url(), grant_id=result.grant_id, user_token=issuer.token("user-2"))
        (listed,) = (await app.list_grants(end_user_token=token)).grants
        assert (listed.grant_id, listed.credential_kind, listed.label) == (result.grant_id, "end_user", "mine")

        # Asked again, the user lets the app go on with it; or replaces it.
        again = await asked(app, secret, token)
        assert (again.path, again.existing_grant_id) == ("fast_path", result.grant_id)
        visitor.submit(visitor.open(again.connect_url), "approve")
        approved = await told(app, again)
        assert (approved.grant_id, approved.operation) == (result.grant_id, "reauth")
        repair = await asked(app, secret, token, repair_grant_id=result.grant_id)
        assert (repair.path, repair.direct) == ("repair", True)
        other = canary.token()
        visitor.submit(visitor.open(repair.connect_url), "key", key=other)
        assert (await told(app, repair)).grant_id == result.grant_id
        answer = await app.request("GET", world.corner.url(), grant_id=result.grant_id, user_token=token)
        assert answer.json()["headers"]["authorization"] == f"Bearer {other}"
    events = json.dumps(world.events())
    assert key not in events and other not in events and token not in events


async def test_core_98_a_key_that_its_vendor_refuses_is_not_kept(world: World):
    issuer, vendor = Issuer(world), world.services.provider
    bad, good = canary.token(), canary.token()
    of_it = {"template": "meilisearch", "fields": {"host": vendor.url}}
    made = world.api("POST", "/managed-secrets", {"name": "Search", "value": canary.token(), **of_it})
    secret = Secret(made["id"], made["slug"], made["grant_id"], "")
    vendor.refuses(bad)
    token = issuer.token()
    async with world.vault() as app:
        asked_for = await asked(app, secret, token)
        visitor = Visitor()
        page = visitor.submit(visitor.open(asked_for.connect_url), "key", key=bad)
        assert "did not accept this key" in page.text and "401" in page.text
        assert bad not in page.answer.body.decode()
        # The app is told nothing yet: the user may mend it. Nothing of it works.
        with pytest.raises(GrantNotFoundError):
            await app.request("GET", world.corner.url(), provider=secret.slug, user_token=token)
        assert (await app.list_grants(end_user_token=token)).total == 0
        done = visitor.submit(page, "key", key=good)
        assert "is connected" in done.heading
        result = await told(app, asked_for)
        answer = await app.request("GET", world.corner.url(), grant_id=result.grant_id, user_token=token)
        assert answer.json()["headers"]["authorization"] == f"Bearer {good}"
    events = world.events()
    kinds = [event["kind"] for event in events]
    assert (kinds.count("probe.answered"), kinds.count("connect.failed"), kinds.count("connect.done")) == (2, 1, 1)
    assert bad not in json.dumps(events)


async def test_core_98_what_is_wrong_with_how_it_is_set_up(world: World):
    issuer, secret = Issuer(world), world.secret()
    token = issuer.token()
    anywhere = world.secret(hosts=[], allow_any_host=True)
    async with world.vault() as app:
        for options, code in (
            ({"provider": "nothing"}, "secret_not_found"),
            ({"provider": secret.slug, "template_slug": "stripe"}, "secret_template_mismatch"),
            ({"provider": anywhere.slug}, "binding_hosts_required"),
            ({"template_slug": "stripe"}, "no_eligible_grants"),
        ):
            with pytest.raises(ConnectConfigError) as refused:
                await app.create_managed_secret_connect_session(user_token=token, **options)
            assert refused.value.details["error"] == code
        with pytest.raises(GrantNotFoundError):
            await asked(app, secret, token, repair_grant_id=UNKNOWN)
        with pytest.raises(ReAuthRequiredError):
            await asked(app, secret, "a.b.c")
        with pytest.raises(BackendError) as refused:
            await asked(app, secret, token, allowed_origin="http://app.example.com")
        assert refused.value.details["error"] == "invalid_origin"
        for later in ({"agent": UNKNOWN}, {"agent": UNKNOWN, "delegable": True}):
            with pytest.raises(BackendError) as refused:
                await asked(app, secret, token, **later)
            assert refused.value.details["error"] == "feature_unavailable"


# In a browser


async def look(browsing: Browsing, page: Page, name: str, heading: str | re.Pattern[str]) -> None:
    """The page is there, axe has nothing to say, nothing runs out of it sideways, and a picture of it is kept."""
    await page.get_by_role("heading", level=1, name=heading).wait_for()
    assert [str(violation) for violation in await browsing.violations(page)] == [], name
    width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], f"{name} is {width[0]} wide on a window of {width[1]}"
    await screenshot(page, name)


def vendors(world: World) -> Secret:
    """A secret of a template with a call that says whether a key works, for a host with a certificate of the tests' own."""
    of_it = {"template": "gitlab", "fields": {"host": world.services.tls_provider.authority}}
    made = world.api("POST", "/managed-secrets", {"name": "Gitea", "value": "x", **of_it})
    return Secret(made["id"], made["slug"], made["grant_id"], "x")


@pytest.mark.one_engine
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
async def test_core_98_the_pages_on_a_desktop_and_a_phone(browsing: Browsing, world: World, device: str, theme: str):
    issuer, secret = Issuer(world), vendors(world)
    token, key = issuer.token(email="mateo@example.com"), secrets.token_hex(20)
    tab = await browsing.tab(DEVICES[device], color_scheme=theme, reduced_motion="reduce")
    name = f"key-{device}-{theme}"
    async with world.vault() as app:
        made = await asked(app, secret, token)
        await tab.goto(made.connect_url)
        await look(browsing, tab, f"{name}-entry", "Add your Gitea key")
        field = tab.get_by_label(re.compile("access token", re.I))
        assert await field.get_attribute("type") == "password"
        await tab.get_by_label("Name for this key").fill("Nightly builds")
        # No key is of other letters.
        await field.fill("ключ")
        await tab.get_by_role("button", name="Check and save key").click()
        await tab.get_by_text("That does not fit here").wait_for()
        await look(browsing, tab, f"{name}-wrong", "Add your Gitea key")
        assert await field.input_value() == "" and "ключ" not in await tab.content()
        assert await tab.get_by_label("Name for this key").input_value() == "Nightly builds"
        # Its vendor cannot be asked: the server does not know who vouches for it.
        await field.fill(key)
        await tab.get_by_role("button", name="Check and save key").click()
        await tab.get_by_role("alert").filter(has_text="does not answer right now").wait_for()
        await look(browsing, tab, f"{name}-unreachable", "Add your Gitea key")
        assert await field.input_value() == "" and key not in await tab.content()
        # By keyboard alone.
        await tab.get_by_label("Save it without a check").press("Space")
        await field.focus()
        await tab.keyboard.type(key)
        await tab.keyboard.press("Enter")
        await look(browsing, tab, f"{name}-saved", "Gitea is connected")
        result = await told(app, made)
        assert key not in await tab.content() and key not in tab.url
        again = await asked(app, secret, token)
        await tab.goto(again.connect_url)
        await look(browsing, tab, f"{name}-known", re.compile("use your Gitea key"))
        await tab.get_by_role("button", name="Allow", exact=True).click()
        await tab.get_by_role("heading", level=1, name="Gitea is connected").wait_for()
        assert (await told(app, again)).grant_id == result.grant_id


@pytest.mark.one_engine
async def test_core_98_the_page_works_without_script(browsing: Browsing, world: World):
    issuer, key = Issuer(world), secrets.token_hex(20)
    secret = world.secret(name="Gitea")
    tab = await browsing.tab(PHONE, java_script_enabled=False)
    async with world.vault() as app:
        made = await asked(app, secret, issuer.token())
        await tab.goto(f"{world.server.url}/sdk/oauth/connect")
        await tab.get_by_label("Link").fill(made.connect_url)
        await tab.get_by_role("button", name="Open").click()
        await look(browsing, tab, "key-without-script-entry", "Add your Gitea key")
        await tab.get_by_label("Key", exact=True).fill(key)
        await tab.get_by_role("button", name="Save key").click()
        await look(browsing, tab, "key-without-script-saved", "Gitea is connected")
        assert (await told(app, made)).provider_id == secret.slug
