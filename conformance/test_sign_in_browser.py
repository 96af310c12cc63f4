"""The pages of signing in, by itself and before an account is connected, in a real browser: at a real authorization server, on a desktop and a phone, in both themes,
with and without script; each page judged by axe, and a picture of it kept."""

from __future__ import annotations

import re

import pytest
from alter_sdk import AlterSDKError, App, ConnectConfigError
from playwright.async_api import BrowserContext, Page

from harness.authorization_server import AuthorizationServer, Client
from harness.browser import DESKTOP, PHONE, Browsing, screenshot
from harness.connecting import poll, real, redirect_uri, session
from harness.world import World

# A page is the same on either engine.
pytestmark = pytest.mark.one_engine

DEVICES = {"desktop": DESKTOP, "phone": PHONE}


def registered(world: World, server: AuthorizationServer) -> Client:
    """The app's users sign in at the authorization server, as this client of it."""
    client = server.client(redirect_uri(world), "client_secret_basic")
    named = {"name": "Halden ID", "issuer": server.url, "audiences": [client.id], "scopes": ["openid", "email"]}
    world.api("POST", "/identity-providers", {**named, "client_id": client.id, "client_secret": client.secret})
    return client


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name)).first.click()


async def walk(browsing: Browsing, world: World, context: BrowserContext, app: App, name: str, *, pastes: bool) -> None:
    tab = await context.new_page()

    async def shown(page: str, heading: str | re.Pattern[str]) -> None:
        await tab.get_by_role("heading", level=1, name=heading).wait_for()
        assert [str(violation) for violation in await browsing.violations(tab)] == [], page
        width = await tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{page} is {width[0]} wide on a window of {width[1]}"
        await screenshot(tab, f"sign-in-{name}-{page}")

    async def begun() -> str:
        made = await app.create_auth_session()
        if not pastes:
            await tab.goto(made.auth_url)
            return made.session_token
        await tab.goto(f"{world.server.url}/sign-in")
        await shown("paste", "Sign in")
        await tab.get_by_label("Link").fill(made.auth_url)
        await press(tab, "Open")
        return made.session_token

    session = await begun()
    await shown("ask", re.compile("^Sign in to"))
    assert session not in tab.url
    await press(tab, "Continue to Halden ID")
    await tab.get_by_label("Account").fill("alice")
    await press(tab, "Sign in")
    await press(tab, "Allow")
    await shown("done", "You are signed in")
    result = await app.poll_auth_session(session, timeout=20, poll_interval=0.1)
    assert await app.verify_user_token(result.user_token) == "alice"
    assert result.user_token not in await tab.content()

    session = await begun()
    await press(tab, "Do not sign in")
    await shown("declined", "You did not sign in")
    with pytest.raises(AlterSDKError):
        await app.poll_auth_session(session, timeout=20, poll_interval=0.1)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
async def test_every_page_of_sign_in_is_fit_for_everybody(
    browsing: Browsing, world: World, authorization_server: AuthorizationServer, device: str, theme: str
):
    registered(world, authorization_server)
    context = await browsing.person(DEVICES[device], color_scheme=theme, reduced_motion="reduce")
    async with world.vault() as app:
        await walk(browsing, world, context, app, f"{device}-{theme}", pastes=False)


async def test_every_page_of_sign_in_works_without_script(
    browsing: Browsing, world: World, authorization_server: AuthorizationServer
):
    registered(world, authorization_server)
    context = await browsing.person(PHONE, java_script_enabled=False)
    async with world.vault() as app:
        await walk(browsing, world, context, app, "without-script", pastes=True)


async def connects(browsing: Browsing, context: BrowserContext, app: App, made, name: str, *, pastes: bool) -> None:
    """Somebody opens the link, comes as somebody else first, and connects an account in the end."""
    tab = await context.new_page()

    async def shown(page: str, heading: str | re.Pattern[str]) -> None:
        await tab.get_by_role("heading", level=1, name=heading).wait_for()
        assert [str(violation) for violation in await browsing.violations(tab)] == [], page
        width = await tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{page} is {width[0]} wide on a window of {width[1]}"
        await screenshot(tab, f"connect-sign-in-{name}-{page}")

    async def signs_in(account: str, *, instead: bool = False) -> None:
        await press(tab, "Continue to Halden ID")
        await tab.get_by_label("Account").fill(account)
        await press(tab, "Sign in")
        if instead and pastes:
            # That server's own page, which signs out whoever was there by script.
            await press(tab, "Continue")
        await press(tab, "Allow")

    if pastes:
        await tab.goto(f"{made.connect_url.split('#')[0]}")
        await tab.get_by_label("Link").fill(made.connect_url)
        await press(tab, "Open")
    else:
        await tab.goto(made.connect_url)
    await shown("first", "First, who are you?")
    assert await tab.get_by_text("a…@example.test").count() == 1
    # The identity provider knows this browser's user by now, and asks all the same.
    await signs_in("bob")
    await shown("other", "This link is for somebody else")
    await press(tab, "Try again")
    await shown("again", "First, who are you?")
    await signs_in("alice", instead=True)
    await shown("consent", re.compile("use your Example Accounts account"))
    await press(tab, "Continue to Example Accounts")
    await press(tab, "Allow")
    await shown("connected", "Example Accounts is connected")


@pytest.mark.parametrize(
    ("device", "theme", "script"), [("desktop", "light", True), ("phone", "dark", True), ("phone", "light", False)]
)
async def test_whoever_connects_signs_in_first_as_the_user_of_the_session(
    browsing: Browsing, world: World, authorization_server: AuthorizationServer, device: str, theme: str, script: bool
):
    client, of = registered(world, authorization_server), real(world, authorization_server)
    world.api("PATCH", "", {"connect_sign_in": "required"})
    context = await browsing.person(
        DEVICES[device], color_scheme=theme, reduced_motion="reduce", java_script_enabled=script
    )
    token = client.id_token("alice")
    name = f"{device}-{theme}" if script else "without-script"
    async with world.vault() as app:
        with pytest.raises(AlterSDKError) as refused:
            await session(app, of.provider_id)
        assert refused.value.details["details"]["field"] == "user_token"
        made = await session(app, of.provider_id, user_token=token)
        await connects(browsing, context, app, made, name, pastes=not script)
        (result,) = await poll(app, made)
        answer = await app.request("GET", of.api_url, grant_id=result.grant_id, user_token=token)
        assert answer.json()["account"] == "alice"


async def test_a_session_is_refused_if_its_user_could_not_sign_in(
    world: World, authorization_server: AuthorizationServer
):
    client, of = authorization_server.client(redirect_uri(world)), real(world, authorization_server)
    world.api("POST", "/identity-providers", {"issuer": authorization_server.url, "audiences": [client.id]})
    world.api("PATCH", "", {"connect_sign_in": "required", "return_origins": ["https://app.example.com"]})
    token = client.id_token("alice")
    async with world.vault() as app:
        with pytest.raises(ConnectConfigError) as refused:
            await session(app, of.provider_id, user_token=token)
        assert refused.value.details["error"] == "idp_signin_not_configured"
        assert refused.value.details["details"]["reason"] == "missing_client_id"
        world.api("PATCH", "", {"connect_sign_in": "off"})
        for options, code in (
            ({"return_url": "https://evil.example/"}, "invalid_redirect_uri"),
            ({"allowed_origin": "https://evil.example"}, "invalid_origin"),
        ):
            with pytest.raises(AlterSDKError) as refused:
                await session(app, of.provider_id, user_token=token, **options)
            assert refused.value.details["error"] == code
        await session(app, of.provider_id, user_token=token, return_url="https://app.example.com/done")
