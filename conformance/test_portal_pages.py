"""Every page of the portal, judged by axe at least once: a template that nobody saw fails. And the portal by keyboard alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from harness import tour
from harness.authorization_server import AuthorizationServer
from harness.browser import DESKTOP, PHONE, Browsing, screenshot
from harness.portal import Api, fill, pages, running, sign_in, templates

# `dev` is the same whatever database the other tests use.
pytestmark = pytest.mark.one_engine


@pytest.fixture
def dev(binary: str, tmp_path: Path) -> Iterator[dict]:
    with running(binary, tmp_path) as dev:
        yield dev


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
    async def tab() -> Page:
        return await browsing.tab(DESKTOP)

    with tour.running_with_issuer(binary, tmp_path, authorization_server) as dev:
        api, judge, page = Api(dev), Judge(browsing), await tab()
        await fill(dev, api)
        await tour.outside(page, dev, judge.look)
        await sign_in(page, dev)
        found = pages(dev, api)
        for name, path in found.items():
            answer = await page.goto(dev["portal_url"] + path)
            assert answer.status == 200, f"{name}: {path}"
            await judge.look(page, name)
        await page.goto(dev["portal_url"] + "/nothing")
        await judge.look(page, "nothing")
        await tour.made_once(page, dev, found, judge.look)
        await tour.issuers(page, dev, judge.look)
        await tour.leaving(page, dev, found, judge.look)
        await tour.account(tab, page, dev, judge.look)
        await tour.at_the_issuer(tab, dev, judge.look)
    assert judge.found == {}
    assert sorted(templates() - judge.seen) == [], "templates that nobody has judged"


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
