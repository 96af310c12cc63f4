"""Every page of the portal, judged by axe at least once: a template that nobody saw fails. And the portal by keyboard alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from harness.authorization_server import AuthorizationServer
from harness.browser import DESKTOP, PHONE, Browsing, screenshot
from harness.portal import PASSWORD, Api, an_hour_later, fill, pages, running, sign_in, templates, totp

# `dev` is the same whatever database the other tests use.
pytestmark = pytest.mark.one_engine


@pytest.fixture
def dev(binary: str, tmp_path: Path) -> Iterator[dict]:
    with running(binary, tmp_path) as dev:
        yield dev


@asynccontextmanager
async def staying(page: Page, address: str) -> AsyncIterator[None]:
    """Pages that lead on by themselves stay until somebody has looked at them."""

    async def hold(route: Route) -> None:
        answer = await route.fetch(max_redirects=0)
        await route.fulfill(response=answer, body=(await answer.text()).replace('http-equiv="refresh"', 'name="held"'))

    await page.route(address, hold)
    yield
    await page.unroute(address)


class Judge:
    """Looks at pages, and remembers by which templates they were drawn."""

    def __init__(self, browsing: Browsing) -> None:
        self.browsing = browsing
        self.seen: set[str] = set()
        self.found: dict[str, list[str]] = {}

    async def look(self, page: Page, name: str) -> None:
        self.seen.add(await page.evaluate("document.body.dataset.template"))
        violations = [str(violation) for violation in await self.browsing.violations(page)]
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            violations.append(f"the page is {wide} px wider than the window")
        if violations:
            self.found[name] = violations
            await screenshot(page, f"portal-judged-{name}")


async def test_every_template_is_judged(
    browsing: Browsing, binary: str, tmp_path: Path, authorization_server: AuthorizationServer
):
    client = authorization_server.client("http://127.0.0.1/until/the/port/is/known")
    secret = tmp_path / "secret"
    secret.write_text(client.secret + "\n")
    settings = {
        "GRANTD_SSO_ISSUER": authorization_server.url,
        "GRANTD_SSO_CLIENT_ID": client.id,
        "GRANTD_SSO_CLIENT_SECRET_FILE": str(secret),
        "GRANTD_SSO_NAME": "Halden ID",
        "GRANTD_OUTBOUND_ALLOW": authorization_server.authority,
    }
    with running(binary, tmp_path, **settings) as dev:
        back = dev["base_url"] + "/portal/sign-in/sso"
        client.configure(secret=client.secret, redirect_uris=[back], auth=client.auth)
        api, judge = Api(dev), Judge(browsing)
        await fill(dev, api)
        api.call("POST", "operators", {"email": "alice@example.test", "role": "viewer"})
        page = await browsing.tab(DESKTOP)
        await outside(page, dev, judge)
        await sign_in(page, dev)
        found = pages(dev, api)
        for name, path in found.items():
            answer = await page.goto(dev["portal_url"] + path)
            assert answer.status == 200, f"{name}: {path}"
            await judge.look(page, name)
        await page.goto(dev["portal_url"] + "/nothing")
        await judge.look(page, "nothing")
        await made_once(page, dev, judge, found)
        await issuers(page, dev, judge)
        await leaving(page, dev, judge, found)
        await account(browsing, page, dev, judge)
        await at_the_issuer(browsing, dev, judge)
    assert judge.found == {}
    assert sorted(templates() - judge.seen) == [], "templates that nobody has judged"


async def outside(page: Page, dev: dict, judge: Judge) -> None:
    """Pages of who is not signed in."""
    for name, path in {
        "sign-in": "/sign-in",
        "sign-in-stale": "/sign-in?link=login_x",
        "trouble-outside": "/none/of/these",
        "sso-stale": "/sign-in/sso?state=x&code=x",
    }.items():
        await page.goto(dev["portal_url"] + path)
        await judge.look(page, name)
    await page.goto(dev["login_url"])
    await judge.look(page, "sign-in-link")


async def made_once(page: Page, dev: dict, judge: Judge, found: dict[str, str]) -> None:
    """What is shown once, by the form that makes it."""
    for name, path, fields, button in (
        ("key-minted", found["key-new"], {"name": "Judge"}, "Create key"),
        ("token-minted", "/tokens/new", {"name": "Judge"}, "Create token"),
        ("member-link", "/members/new", {"email": "judge@halden.example"}, "Invite"),
    ):
        await page.goto(dev["portal_url"] + path)
        for field, value in fields.items():
            await page.locator(f"#{field}").fill(value)
        await page.locator("main").get_by_role("button", name=button).click()
        await page.locator("output").wait_for()
        await judge.look(page, name)
    await page.goto(dev["portal_url"] + found["idp"])
    await page.get_by_role("button", name="Make another token").first.click()
    await page.locator("output").wait_for()
    await judge.look(page, "idp-token")


async def issuers(page: Page, dev: dict, judge: Judge) -> None:
    """Only a form leads to what an issuer says: that of the demo provider."""
    provider = Api(dev).find(f"apps/{dev['app_id']}/providers?search=demo")
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/identity/new/oidc")
    await page.get_by_label("Issuer").fill(provider["custom"]["issuer"])
    await page.get_by_role("button", name="Look at the issuer").click()
    await page.get_by_role("heading", name="What the issuer says").wait_for()
    await judge.look(page, "idp-look")


async def leaving(page: Page, dev: dict, judge: Judge, found: dict[str, str]) -> None:
    """To the provider, by oneself or by a link."""
    await page.goto(dev["portal_url"] + found["provider"])
    await page.get_by_role("button", name="Make a link").click()
    await page.locator("#connect-link").wait_for()
    await judge.look(page, "connect-link")
    await page.goto(dev["portal_url"] + found["provider"])
    async with staying(page, "**/connect"):
        await page.get_by_role("button", name="Connect", exact=True).click()
        await page.locator("[data-template='portal/connect_leave.html']").wait_for()
        await judge.look(page, "connect-leave")


async def account(browsing: Browsing, page: Page, dev: dict, judge: Judge) -> None:
    """How one signs in, and is asked again."""
    await page.goto(dev["portal_url"] + "/account/passkeys/new")
    await judge.look(page, "passkey-new")
    await page.goto(dev["portal_url"] + "/account")
    await page.get_by_label("New password").fill(PASSWORD)
    await page.get_by_role("button", name="Set password").click()
    await page.get_by_text("The password is set").wait_for()
    await page.get_by_role("button", name="Set up an app").click()
    secret = await page.locator("#secret").text_content()
    await judge.look(page, "totp-new")
    await page.get_by_label("Code").fill(totp(secret))
    await page.get_by_role("button", name="Turn it on").click()
    await page.get_by_role("heading", name="Keep these recovery codes").wait_for()
    await judge.look(page, "totp-codes")
    other = await browsing.tab(DESKTOP)
    await other.goto(dev["portal_url"] + "/sign-in")
    await other.get_by_label("E-mail address").fill("operator@localhost")
    await other.get_by_label("Password").fill(PASSWORD)
    await other.get_by_role("button", name="Sign in", exact=True).click()
    await other.locator("#code").wait_for()
    await judge.look(other, "sign-in-code")
    an_hour_later(dev)
    await page.goto(dev["portal_url"] + "/account")
    await page.get_by_role("button", name="Remove password").click()
    await page.get_by_role("heading", name="Is it still you?").wait_for()
    await judge.look(page, "confirm")


async def at_the_issuer(browsing: Browsing, dev: dict, judge: Judge) -> None:
    """There, back, and there again."""
    page = await browsing.tab(DESKTOP)
    await page.goto(dev["portal_url"] + "/account")
    async with staying(page, "**/portal/sign-in/sso"):
        await page.get_by_role("button", name="Sign in with Halden ID").click()
        await page.locator("[data-template='portal/sso_leave.html']").wait_for()
        await judge.look(page, "sso-leave")
    # The issuer's redirect cannot be held, but where the page behind it leads to can: nothing comes of that, and it stays.
    ahead = "**/portal/account"
    await page.route(ahead, lambda route: route.fulfill(status=204))
    await page.get_by_role("link").first.click()
    await page.get_by_label("Account").fill("alice")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Allow").click()
    await page.locator("[data-template='portal/sso_back.html']").wait_for()
    await judge.look(page, "sso-back")
    await page.unroute(ahead)
    await page.get_by_role("link").first.click()
    await page.get_by_role("heading", name="Your account", level=1).wait_for()
    an_hour_later(dev)
    await page.get_by_role("button", name="Remove binding").click()
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Prove it with Halden ID").click()
    window = await opened.value
    await window.get_by_label("Account").fill("alice")
    await window.get_by_role("button", name="Sign in").click()
    await window.get_by_role("heading", name="It is still you").wait_for()
    await judge.look(window, "sso-confirmed")


async def test_the_portal_by_keyboard_alone(browsing: Browsing, dev: dict):
    page = await browsing.tab(DESKTOP)
    await sign_in(page, dev)
    focused = "document.activeElement.{}"
    # The first thing one comes to leads past the navigation.
    await page.keyboard.press("Tab")
    assert await page.evaluate(focused.format("className")) == "skip"
    await page.keyboard.press("Enter")
    assert await page.evaluate(focused.format("id")) == "main"
    # The menu opens with Enter, and ends with Escape where it began.
    menu = page.locator("details.menu")
    await menu.locator("summary").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.closest('.menu__items') !== null")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    assert await page.evaluate(focused.format("tagName")) == "SUMMARY"
    # What was wrong is where one goes on: at its field, else at what is said of the form.
    await page.goto(f"{dev['portal_url']}/apps/new")
    await page.get_by_label("Name").fill("Kept")
    await page.get_by_label("Website").fill("gopher://x")
    await page.evaluate("document.querySelector('main form').noValidate = true")
    await page.keyboard.press("Enter")
    await page.locator("#website_url-error").wait_for()
    await expect(page.get_by_label("Website")).to_be_focused()
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/audit?context=unindexed")
    await expect(page.locator("main .note[role='alert']")).to_be_focused()
    # On a phone the navigation opens, is gone through, and is left with Escape.
    state = await page.context.storage_state()
    phone = await (await browsing.person(PHONE, storage_state=state)).new_page()
    await phone.goto(f"{dev['portal_url']}/apps")
    toggle = phone.get_by_role("button", name="Open navigation")
    await toggle.focus()
    await phone.keyboard.press("Enter")
    overview = phone.get_by_role("link", name="Overview")
    await expect(overview).to_be_visible()
    await phone.keyboard.press("Tab")
    await phone.keyboard.press("Tab")
    await expect(overview).to_be_focused()
    await phone.keyboard.press("Escape")
    await expect(overview).to_be_hidden()
    await expect(toggle).to_be_focused()


async def test_a_part_that_follows_is_held_and_goes_on(browsing: Browsing, dev: dict):
    page = await browsing.tab(DESKTOP)
    await sign_in(page, dev)
    # Time is the test's own: what waits for two seconds does so when it is told that they are over.
    await page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.resource_type == "fetch" else None)
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/audit")
    await page.mouse.move(0, 0)
    async with page.expect_response("**/audit?*"):
        await page.clock.run_for(2_100)
    await page.get_by_role("button", name="Pause").click()
    await page.evaluate("document.activeElement.blur()")
    await page.mouse.move(0, 0)
    before = len(asked)
    Api(dev).call("PATCH", f"apps/{dev['app_id']}", {"name": "Renamed"})
    await page.clock.run_for(20_000)
    assert len(asked) == before
    await page.get_by_role("button", name="Go on").click()
    await page.evaluate("document.activeElement.blur()")
    async with page.expect_response("**/audit?*"):
        await page.clock.run_for(2_100)
    await page.locator("#events").get_by_text("app.updated").wait_for()
    await expect(page.locator("[data-live-says]")).to_have_text("New events: 1")


async def test_a_logo_that_was_chosen_is_seen_before_it_is_sent(browsing: Browsing, dev: dict):
    page = await browsing.tab(DESKTOP)
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    await sign_in(page, dev)
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/branding")
    picture = await page.locator(".preview").screenshot()
    await page.locator("#logo").set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": json.dumps({}).encode()})
    assert await page.locator(".preview canvas").count() == 0
    await page.locator("#logo").set_input_files({"name": "logo.png", "mimeType": "image/png", "buffer": picture})
    canvas = page.locator(".preview canvas.logo")
    await canvas.wait_for()
    assert max(await canvas.evaluate("canvas => [canvas.width, canvas.height]")) == 256
    assert refused == []
