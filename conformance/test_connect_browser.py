"""Case 99 and the hosted pages in a real browser: popup and redirect with the unmodified `@alter-ai/connect`, on a
desktop and a phone, by mouse and by keyboard, in both themes, with and without script; each page judged by axe.

The provider is the real authorization server, with its own pages to sign in and to consent. Pictures of every page are
kept: look at them. `harness/browser.py` says where.
"""

from __future__ import annotations

import asyncio
import re
import secrets

import pytest
from alter_sdk import App, ConnectDeniedError, ConnectSession
from playwright.async_api import BrowserContext, Page

from harness.authorization_server import AuthorizationServer
from harness.browser import DESKTOP, PHONE, Browsing, HostPage, screenshot
from harness.connecting import Real, played, poll, real, session
from harness.quirks import Act, Quirks
from harness.world import World

# A page is the same on either engine.
pytestmark = pytest.mark.one_engine

DEVICES = {"desktop": DESKTOP, "phone": PHONE}
# A page of ours, and none of the provider's.
PAGES = re.compile(r"/(sdk/oauth/connect|connect/)")


@pytest.fixture
def of(world: World, authorization_server: AuthorizationServer) -> Real:
    return real(world, authorization_server)


async def embedded(app: App, world: World, host_page: HostPage, provider_id: str, **options: object) -> ConnectSession:
    """A session for the button on somebody's own site."""
    made = await session(app, provider_id, allowed_origin=host_page.url, **options)
    host_page.token, host_page.base = made.session_token, world.server.url
    return made


async def popup(page: Page) -> Page:
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Connect an account").click()
    return await opened.value


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name)).first.click()


async def consent(page: Page, account: str = "alice", answer: str = "Allow") -> None:
    """At the provider."""
    await page.get_by_label("Account").fill(account)
    await press(page, "Sign in")
    await press(page, answer)


async def closed(page: Page) -> None:
    if not page.is_closed():
        await page.wait_for_event("close")


async def look(browsing: Browsing, page: Page, name: str, heading: str | re.Pattern[str]) -> None:
    """The page is there, axe has nothing to say, nothing runs out of it sideways, and a picture of it is kept."""
    await page.get_by_role("heading", level=1, name=heading).wait_for()
    assert [str(violation) for violation in await browsing.violations(page)] == [], name
    width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], f"{name} is {width[0]} wide on a window of {width[1]}"
    await screenshot(page, name)


# With the browser client


async def test_core_99_a_popup_connects(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    async with world.vault() as app:
        made = await embedded(app, world, host_page, "real")
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        # What opens the session is out of the address bar before anybody could see or share it.
        await window.wait_for_url(PAGES)
        await press(window, "Continue to Example Accounts")
        assert made.session_token not in window.url
        await consent(window)
        (grant,) = await host_page.told(tab, "success")
        await closed(window)
        (result,) = await poll(app, made)
        answer = await app.request("GET", of.api_url, grant_id=grant["grant_id"])
    assert answer.json()["account"] == "alice"
    assert grant["grant_id"] == result.grant_id
    assert (grant["provider"], grant["provider_name"], grant["account_identifier"]) == (
        "real",
        "Example Accounts",
        "alice",
    )
    assert (grant["operation"], grant["status"]) == ("creation", "active")
    assert set(grant["scopes"]) == {"openid", "email", "mail.read"}
    assert await host_page.all_told(tab) == ["event", "success"]


async def test_core_99_a_phone_goes_and_comes_back(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    async with world.vault() as app:
        made = await embedded(app, world, host_page, "real", return_url=f"{host_page.url}/back?mine=1")
        tab = await browsing.tab(PHONE)
        await tab.goto(f"{host_page.url}/start")
        await press(tab, "Connect an account")
        await press(tab, "Continue to Example Accounts")
        await consent(tab)
        # The client restores the page it left when it has read the answer.
        await tab.wait_for_url(f"{host_page.url}/start")
        (result,) = await poll(app, made)
    assert len(tab.context.pages) == 1
    (returned,) = [path for path in host_page.requests if path.startswith("/back?")]
    assert returned.startswith("/back?mine=1&alter_connect_success=true&")
    assert f"grant_id={result.grant_id}" in returned and "provider=real" in returned
    assert "account_identifier=alice" in returned


async def test_core_99_the_same_account_again(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    tab = await browsing.tab()
    grants = []
    async with world.vault() as app:
        for is_new in (True, False):
            await embedded(app, world, host_page, "real")
            await tab.goto(host_page.url)
            await tab.evaluate("localStorage.clear()")
            window = await popup(tab)
            await press(window, "Continue to Example Accounts")
            # From then on the provider knows who it is, and that they agreed.
            if is_new:
                await consent(window)
            grants += await host_page.told(tab, "success")
            await closed(window)
    assert grants[0]["grant_id"] == grants[1]["grant_id"]
    assert [grant["operation"] for grant in grants] == ["creation", "reauth"]


async def test_core_99_who_says_no_at_the_provider(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    async with world.vault() as app:
        made = await embedded(app, world, host_page, "real")
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        await press(window, "Continue to Example Accounts")
        await consent(window, answer="Deny")
        assert (await host_page.told(tab, "error"))["code"] == "connect_denied"
        with pytest.raises(ConnectDeniedError):
            await poll(app, made)
    assert await host_page.all_told(tab) == ["event", "error"]


async def test_core_99_who_says_no_here(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    async with world.vault() as app:
        await embedded(app, world, host_page, "real")
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        await press(window, "Do not connect")
        assert (await host_page.told(tab, "error"))["code"] == "connect_denied"
    assert of.client.calls() == []


async def test_core_99_a_closed_popup_is_an_exit_and_the_link_goes_on(
    browsing: Browsing, host_page: HostPage, world: World, of: Real
):
    async with world.vault() as app:
        made = await embedded(app, world, host_page, "real")
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        await window.get_by_role("button", name="Continue to Example Accounts").wait_for()
        await window.close()
        await host_page.told(tab, "exit")
        assert await host_page.all_told(tab) == ["event", "exit"]
        # The same person opens it again, and gets there.
        await tab.evaluate("localStorage.clear()")
        window = await popup(tab)
        await press(window, "Continue to Example Accounts")
        await consent(window)
        await host_page.told(tab, "success")
        assert len(await poll(app, made)) == 1


async def test_core_99_another_site_is_not_told(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    """The message goes to the origin that the session names, and not to whoever opened the window."""
    async with world.vault() as app:
        made = await session(app, "real", allowed_origin="https://app.example.com")
        host_page.token, host_page.base = made.session_token, world.server.url
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        await press(window, "Continue to Example Accounts")
        await consent(window)
        await host_page.told(tab, "exit")
        assert len(await poll(app, made)) == 1
    assert await host_page.all_told(tab) == ["event", "exit"]


async def test_core_99_several_providers(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    played(world, provider_id="acme")
    async with world.vault() as app:
        made = await app.create_connect_session(allowed_providers=["real", "acme"], allowed_origin=host_page.url)
        host_page.token, host_page.base = made.session_token, world.server.url
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        await press(window, "Acme")
        await press(window, "Continue to Acme")
        await look(browsing, window, "picker-one-connected", "Which account do you want to connect?")
        await press(window, "Done")
        (grant,) = await host_page.told(tab, "success")
        (result,) = await poll(app, made)
    assert (grant["provider"], result.provider_id) == ("acme", "acme")
    assert [failed.provider_id for failed in result.failed_grants] == ["real"]


async def test_a_direct_session_goes_straight_to_the_provider(
    browsing: Browsing, host_page: HostPage, world: World, of: Real
):
    async with world.vault() as app:
        await embedded(app, world, host_page, "real", direct=True)
        tab = await browsing.tab()
        await tab.goto(host_page.url)
        window = await popup(tab)
        await consent(window)
        assert await host_page.told(tab, "success")


# Whose link it is


async def test_a_second_browser_gets_nowhere(browsing: Browsing, world: World, of: Real):
    async with world.vault() as app:
        made = await session(app, "real")
        mine, other = await browsing.tab(), await browsing.tab()
        await mine.goto(made.connect_url)
        await mine.get_by_role("button", name="Continue to Example Accounts").wait_for()
        await other.goto(made.connect_url)
        await look(browsing, other, "wrong-browser", "This was opened in another browser")
        await other.goto(mine.url)
        await other.get_by_role("heading", name="This was opened in another browser").wait_for()
        await press(mine, "Continue to Example Accounts")
        await consent(mine)
        assert (await poll(app, made))[0].account_identifier == "alice"


async def test_a_link_that_is_over(browsing: Browsing, world: World, of: Real):
    tab = await browsing.tab()
    await tab.goto(f"{world.server.url}/sdk/oauth/connect#session=sess_{secrets.token_urlsafe(32)}")
    await look(browsing, tab, "expired", "This link does not work any more")
    assert "#" not in tab.url


async def test_names_of_others_do_nothing(browsing: Browsing, world: World):
    hostile = "<img src=x onerror=\"document.title='pwned'\"><script>alert(1)</script>"
    world.update_app(name=f"{hostile} {secrets.token_hex(4)}")
    played(world, name=("\u202eEvil</title><svg onload=alert(2)>" + "x" * 100)[:100])
    dialogs: list[str] = []
    async with world.vault() as app:
        made = await session(app, "acme")
        tab = await browsing.tab(PHONE)
        tab.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await tab.goto(made.connect_url)
        await look(browsing, tab, "hostile-names", re.compile("Let .* use your"))
        assert await tab.locator("main img, main script, h1 svg").count() == 0
        assert "pwned" not in await tab.title() or "document.title" in await tab.title()
    assert dialogs == []


# Every page, for everybody


async def walk(browsing: Browsing, world: World, of: Real, context: BrowserContext, kind: str) -> None:
    """Each page that a user of Connect may get to see, as somebody with this browser gets to it."""
    world.update_app(name=f"Meeting notes {secrets.token_hex(3)}")
    lab = played(world, Quirks(refused_scopes=frozenset({"write"})), provider_id="acme")
    tab = await context.new_page()

    async def shown(name: str, heading: str) -> None:
        await look(browsing, tab, f"{kind}-{name}", heading)

    async with world.vault() as app:
        await tab.goto(f"{world.server.url}/sdk/oauth/connect")
        await shown("open", "Connect your account")
        await tab.get_by_label("Link").fill("not a link")
        await press(tab, "Open")
        await shown("open-not-a-link", "Connect your account")

        made = await app.create_connect_session(
            allowed_providers=["real", "acme"],
            required_scopes={"acme": ["write"]},
            grant_policy={"default_ttl_seconds": 86_400},
        )
        await tab.get_by_label("Link").fill(made.connect_url)
        await press(tab, "Open")
        await shown("picker", "Which account do you want to connect?")
        await press(tab, "Acme")
        await shown("consent", re.compile("use your Acme account"))
        await press(tab, "Continue to Acme")
        await shown("partial", re.compile("needs a little more from Acme"))
        lab.provider.play(Act("status", status=503))
        lab.provider.quirks = Quirks()
        await press(tab, "Go back to Acme")
        await shown("failed", "Acme does not answer right now")
        await press(tab, "Try again")
        lab.provider.denies = "access_denied"
        await press(tab, "Continue to Acme")
        await shown("declined", "Acme was not connected")
        lab.provider.denies = None
        await press(tab, "Try again")
        await press(tab, "Continue to Acme")
        await shown("picker-connected", "Which account do you want to connect?")
        await press(tab, "Done")
        await shown("finished", "Acme is connected")
        assert (await poll(app, made))[0].provider_id == "acme"

        made = await session(app, "real")
        await tab.goto(f"{world.server.url}/sdk/oauth/connect")
        await tab.get_by_label("Link").fill(made.connect_url)
        await press(tab, "Open")
        await press(tab, "Do not connect")
        await shown("finished-declined", "Nothing was connected")
        await tab.goto(f"{world.server.url}/connect/nothing")
        await shown("not-found", "There is no such page")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
async def test_every_page_is_fit_for_everybody(browsing: Browsing, world: World, of: Real, device: str, theme: str):
    context = await browsing.person(DEVICES[device], color_scheme=theme, reduced_motion="reduce")
    await walk(browsing, world, of, context, f"{device}-{theme}")


async def test_every_page_works_without_script(browsing: Browsing, world: World, of: Real):
    context = await browsing.person(PHONE, java_script_enabled=False)
    await walk(browsing, world, of, context, "without-script")


async def test_the_keyboard_is_enough(browsing: Browsing, host_page: HostPage, world: World, of: Real):
    played(world, provider_id="acme")
    async with world.vault() as app:
        made = await app.create_connect_session(allowed_providers=["acme", "real"])
        tab = await browsing.tab()
        await tab.goto(made.connect_url)
        await reach(tab, "Acme")
        await tab.keyboard.press("Enter")
        await tab.get_by_role("heading", name=re.compile("use your Acme account")).wait_for()
        await reach(tab, "Continue to Acme")
        await tab.keyboard.press("Enter")
        await tab.get_by_text("Connected", exact=True).wait_for()
        await reach(tab, "Done")
        await tab.keyboard.press("Space")
        await tab.get_by_role("heading", name="Acme is connected").wait_for()
        assert (await poll(app, made))[0].provider_id == "acme"


FOCUSED = """(() => {
  const on = document.activeElement;
  return [on.tagName, on.textContent, getComputedStyle(on).outlineStyle];
})()"""


async def reach(page: Page, name: str) -> None:
    """Moves the focus on until it is on what has this name, and sees that it can be seen there."""
    await page.get_by_text(name).first.wait_for()
    for _ in range(30):
        await page.keyboard.press("Tab")
        tag, text, outline = await page.evaluate(FOCUSED)
        if tag in ("A", "BUTTON") and name in text:
            assert outline != "none", f"nothing shows that the focus is on {name}"
            return
    raise AssertionError(f"the keyboard does not get to {name!r}")


async def test_a_second_press_is_not_a_second_consent(browsing: Browsing, world: World):
    of = played(world)
    async with world.vault() as app:
        made = await session(app, "acme")
        tab = await browsing.tab()
        await tab.goto(made.connect_url)
        await tab.get_by_role("button", name="Continue to Acme").dblclick()
        await tab.get_by_role("heading", name="Acme is connected").wait_for()
        assert len(await poll(app, made)) == 1
    assert len(of.provider.made("token")) == 1


async def test_going_back_does_not_connect_again(browsing: Browsing, world: World, of: Real):
    async with world.vault() as app:
        made = await session(app, "real")
        tab = await browsing.tab()
        await tab.goto(made.connect_url)
        await press(tab, "Continue to Example Accounts")
        await consent(tab)
        await tab.get_by_role("heading", name="Example Accounts is connected").wait_for()
        calls = len(of.client.calls())
        await tab.go_back()
        await asyncio.sleep(0)
        await tab.goto(f"{world.server.url}/sdk/oauth/connect#session={made.session_token}")
        await tab.get_by_role("heading", name="Example Accounts is connected").wait_for()
        assert len(await poll(app, made)) == 1
    assert len(of.client.calls()) == calls
