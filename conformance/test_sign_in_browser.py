"""The pages of signing in, in a real browser: at a real authorization server, on a desktop and a phone, in both themes,
with and without script; each page judged by axe, and a picture of it kept."""

from __future__ import annotations

import re

import pytest
from alter_sdk import AlterSDKError, App
from playwright.async_api import BrowserContext, Page

from harness.authorization_server import AuthorizationServer
from harness.browser import DESKTOP, PHONE, Browsing, screenshot
from harness.connecting import redirect_uri
from harness.world import World

# A page is the same on either engine.
pytestmark = pytest.mark.one_engine

DEVICES = {"desktop": DESKTOP, "phone": PHONE}


def registered(world: World, server: AuthorizationServer) -> None:
    """The app's users sign in at the authorization server."""
    client = server.client(redirect_uri(world), "client_secret_basic")
    named = {"name": "Halden ID", "issuer": server.url, "audiences": [client.id], "scopes": ["openid", "email"]}
    world.api("POST", "/identity-providers", {**named, "client_id": client.id, "client_secret": client.secret})


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
