"""Makes the pictures of `docs/portal/` anew: every page of the portal on `grantd dev`, with data as a team would have it.

    python conformance/pictures.py GRANTD [DIRECTORY]

GRANTD is the program. It needs what the browser tests need. Calls are made through the official client; the figures of hours that are over and
10,001 grants are written into the database, because nobody waits for a day.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from playwright.async_api import Page

from harness import tour
from harness.authorization_server import AuthorizationServer
from harness.browser import PHONE, Browsing
from harness.palette import squeeze_file
from harness.portal import Api, fill, fill_grants, fill_hours, pages, templates

DESKTOP = {"viewport": {"width": 1440, "height": 900}}
# Each page is there once in the light; these are there in the dark, too, and on a phone.
DARK = {"overview", "app-overview", "event", "keys", "provider", "users", "account", "audit", "branding"}
ON_PHONE = {"overview", "apps", "grants", "audit", "event", "app-settings", "members", "providers", "users", "idp", "secret"}
# Lists and pages of an app that has nothing yet.
EMPTY = {"app-home": "", "app-start": "/start", "app-overview": "/overview", "keys": "/keys", "secrets": "/secrets"}
EMPTY |= {"grants": "/grants", "users": "/users", "idps": "/identity", "branding": "/branding", "audit": "/audit?outcome=error"}
GRANTS = 45
# More than are counted.
GRANTS_LONG = 10_001
SECONDS_MAX = 900


class Camera:
    """Takes pictures, and remembers which templates are on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seen: set[str] = set()

    async def take(self, page: Page, name: str) -> None:
        self.seen.add(await page.evaluate("document.body.dataset.template"))
        await page.screenshot(path=self.directory / f"{name}.png", full_page=True, animations="disabled")


async def look(browsing: Browsing, dev: dict, directory: Path) -> None:
    async def tab() -> Page:
        return await browsing.tab(DESKTOP, reduced_motion="reduce")

    api, camera, page = Api(dev), Camera(directory), await tab()
    take = camera.take
    await tour.outside(page, dev, take)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    await fill(dev, api)
    fill_hours(dev)
    # The audit's index, and what is counted of it, follow within a second.
    await asyncio.sleep(2)
    state = await page.context.storage_state()
    phone = await (await browsing.person({**PHONE, "device_scale_factor": 1}, storage_state=state, reduced_motion="reduce")).new_page()
    found = pages(dev, api)
    found |= {"overview-month": "/overview?range=30d", "audit-filtered": f"{found['audit']}?grant={dev['grant_id']}"}
    found |= {"nothing": "/nothing"}
    found["app-start"] += f"?grant={dev['grant_id']}"
    for name, path in found.items():
        await page.goto(dev["portal_url"] + path)
        await take(page, name)
        if name in DARK:
            await page.emulate_media(color_scheme="dark")
            await take(page, f"{name}-dark")
            await page.emulate_media(color_scheme="light")
        if name in ON_PHONE:
            await phone.goto(dev["portal_url"] + path)
            await take(phone, f"{name}-phone")
    assert DARK | ON_PHONE <= set(found)
    await phone.get_by_role("button", name="Open navigation").click()
    await phone.screenshot(path=directory / "navigation-phone.png", animations="disabled")
    # What an app has that is new.
    empty = api.find("apps?search=Ledgerline")["id"]
    for name, path in EMPTY.items():
        await page.goto(f"{dev['portal_url']}/apps/{empty}{path}")
        await take(page, f"empty-{name}")
    # More rows than a page holds, with names that are too long; and more than are counted.
    secret = api.find(f"apps/{dev['app_id']}/managed-secrets?search=openai")["id"]
    for number in range(GRANTS):
        label = f"batch-{number:02}" + ("-of-the-nightly-export-of-everything-that-anybody-asked-for" if number % 7 == 0 else "")
        made = {"principal_type": "system", "label": label}
        api.call("POST", f"apps/{dev['app_id']}/managed-secrets/{secret}/grants", made)
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/secrets/{secret}")
    await take(page, "secret-long")
    fill_grants(dev, GRANTS_LONG)
    await page.goto(f"{dev['portal_url']}{found['grants']}?offset=25")
    await page.get_by_text("more than 10,000").wait_for()
    await take(page, "grants-long")
    await page.goto(dev["portal_url"] + "/account")
    await page.get_by_label("New password").fill("too short")
    await page.get_by_role("button", name="Set password").click()
    await page.locator("#password-error").wait_for()
    await take(page, "account-refused")
    await tour.made_once(page, dev, found, take)
    await tour.issuers(page, dev, take)
    await tour.leaving(page, dev, found, take)
    await tour.account(tab, page, dev, take)
    await tour.at_the_issuer(tab, dev, take)
    missing = sorted(templates() - camera.seen)
    assert missing == [], f"templates that are on no picture: {missing}"


def main() -> None:
    binary = sys.argv[1]
    directory = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent.parent / "docs" / "portal")
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.png"):
        old.unlink()
    server = AuthorizationServer()
    with tempfile.TemporaryDirectory() as home, tour.running_with_issuer(binary, Path(home), server) as dev:
        browsing = Browsing()
        try:
            browsing.run(look(browsing, dev, directory), SECONDS_MAX)
        finally:
            browsing.close()
            server.close()
    # Each takes seconds, and needs nothing of the others.
    with ProcessPoolExecutor() as processes:
        list(processes.map(squeeze_file, directory.glob("*.png")))
    size = sum(picture.stat().st_size for picture in directory.glob("*.png"))
    print(f"{directory}: {len(list(directory.glob('*.png')))} pictures, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
