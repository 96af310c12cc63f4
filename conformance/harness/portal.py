"""The portal of a `grantd dev` as its tests and pictures have it: signing in, a world with data as a team would have it, and an address for
every page of the portal's own table.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import os
import re
import signal
import sqlite3
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alter_sdk import AlterSDKError, App
from playwright.async_api import Page, expect

from harness.world import environment

SERVER = Path(__file__).parent.parent.parent / "crates" / "server"
PASSWORD = "violet kettle moth"
HOUR_MS = 3_600_000


@contextmanager
def running(binary: str, tmp_path: Path, **settings: str) -> Iterator[dict]:
    """What a `dev` with these settings says of itself."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [binary, "dev", "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--output", "json"],
            env={**{k: v for k, v in os.environ.items() if not k.startswith("GRANTD_")}, **settings},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0


class Clicker:
    """Somebody who reads, types and clicks, and counts the clicks."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    async def click(self, role: str, name: str, exact: bool = False) -> None:
        self.clicks += 1
        await self.page.get_by_role(role, name=name, exact=exact).first.click()

    async def open(self, link: str) -> None:
        """Clicks a link that stands elsewhere, as in a terminal."""
        self.clicks += 1
        await self.page.goto(link)

    async def copy(self, key: str) -> str:
        """Clicks the button beside what has this id, and returns what is to be pasted then."""
        self.clicks += 1
        await self.page.evaluate("navigator.clipboard.writeText('')")
        await self.page.locator(f"[data-copy='{key}']").click()
        await self.page.locator(f"[data-copy='{key}'][data-done]").wait_for()
        return await self.page.evaluate("navigator.clipboard.readText()")

    async def type(self, field: str, text: str) -> None:
        """Types where one is without a click: the page has put them into this field."""
        await expect(self.page.locator(f"#{field}")).to_be_focused()
        await self.page.keyboard.type(text)


async def sign_in(page: Page, dev: dict) -> Clicker:
    person = Clicker(page)
    await person.open(dev["login_url"])
    await person.click("button", "Sign in")
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    return person


def an_hour_later(dev: dict) -> None:
    """Everybody proved an hour earlier who they are."""
    with sqlite3.connect(Path(dev["data_dir"]) / "grantd.db", timeout=10) as database:
        database.execute("UPDATE web_sessions SET auth_at_ms = auth_at_ms - 3600000")


def totp(secret: str) -> str:
    """What an authenticator app shows now."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4]) & 0x7FFFFFFF) % 1_000_000:06}"


class Api:
    """The management API of a `dev`."""

    def __init__(self, dev: dict) -> None:
        self.base, self.pat = dev["base_url"], dev["pat"]

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        return self.send(method, f"{self.base}/api/v1/{path}", self.pat, body)

    def find(self, path: str) -> dict:
        """The first of a list."""
        return self.call("GET", path)["items"][0]

    def send(self, method: str, url: str, token: str, body: dict | None, kind: str = "application/json") -> dict:
        data = None if body is None else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, head, method=method)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {url}: {error.read().decode()}") from error


SECRETS = [
    ("stripe", "Stripe payouts", {"value": "sk_live_example"}),
    ("openai", "OpenAI", {"value": "sk-example"}),
    ("github", "GitHub deploys of the storefront and of everything behind it", {"value": "ghp_example"}),
]
LONG = "Chidi, whose name somebody filled in with far too many words"
# People, as a directory tells of them; who is not active is suspended.
PEOPLE = [
    ("ada.okafor", "Ada Okafor", True),
    ("bela", "Béla Horváth", True),
    ("chidi.with.a.rather.long.address.of.the.sales.department", LONG, True),
    ("dana", "Dana Lindqvist", False),
    ("emre", None, True),
]


def people(api: Api, app: str) -> None:
    """Two identity providers, and the people that the directory of one tells of."""
    okta = "https://fernway.okta.com/oauth2/default"
    made = {"preset": "okta", "issuer": okta, "audiences": ["api://default"], "jwks_url": f"{okta}/v1/keys"}
    idp = api.call("POST", f"apps/{app}/identity-providers", {**made, "name": "Staff"})
    partners = "https://id.partners.example"
    made = {"issuer": partners, "audiences": ["fernway"], "jwks_url": f"{partners}/keys", "name": "Partners"}
    made = api.call("POST", f"apps/{app}/identity-providers", made)
    api.call("PATCH", f"apps/{app}/identity-providers/{made['id']}", {"state": "inactive"})
    scim = api.call("POST", f"apps/{app}/identity-providers/{idp['id']}/scim", {})
    for name, shown, active in PEOPLE:
        address = f"{name}@halden.example"
        user = {"userName": address, "externalId": f"00u{name[:12]}", "active": active}
        user |= {"emails": [{"value": address, "primary": True}]} | ({"displayName": shown} if shown else {})
        api.send("POST", f"{scim['scim']['base_url']}/Users", scim["token"], user, "application/scim+json")


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
        api.call("POST", f"apps/{app}/managed-secrets", {"template": template, "name": name, **more})
    for provider in ("google", "github", "slack"):
        made = {"provider": provider, "client_id": "1234.apps.example", "client_secret": "example"}
        api.call("POST", f"apps/{app}/providers", made)
    look = {"display_name": "Fernway", "accent_color": "#1f6f54", "background_color": "#f3f6f1"}
    api.call("PATCH", f"apps/{app}/branding", look)
    people(api, app)
    api.call("POST", f"apps/{app}/keys", {"name": "storefront", "expires_in_seconds": 90 * 86_400})
    demo = dev["demo_url"].rstrip("/")
    with environment(ALTER_BASE_URL=dev["base_url"]):
        vault = App(api_key=dev["api_key"])
    async with vault as client:
        for number in range(6):
            context = {"user_id": f"u-{number % 2 + 1}"}
            await client.request("GET", f"{demo}/trips/{number}", grant_id=dev["grant_id"], context=context)
        for url, grant in (("https://evil.example/collect", dev["grant_id"]), (f"{demo}/trips/7", app)):
            try:
                await client.request("GET", url, grant_id=grant)
            except AlterSDKError:
                pass


def fill_hours(dev: dict, hours: int = 30 * 24) -> None:
    """Figures of hours that are over, of a team that sleeps: nobody waits for a day."""
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


def fill_grants(dev: dict, count: int) -> None:
    """More grants of an app, as one of its own is: nobody waits until so many are issued."""
    app = bytes.fromhex(dev["app_id"].replace("-", ""))
    database = sqlite3.connect(Path(dev["data_dir"]) / "grantd.db", timeout=30)
    columns = [column for _, column, *_ in database.execute("PRAGMA table_info(grants)")]
    model = (app, bytes.fromhex(dev["grant_id"].replace("-", "")))
    row = dict(zip(columns, database.execute("SELECT * FROM grants WHERE app_id = ? AND id = ?", model).fetchone(), strict=True))
    rows = []
    for number in range(count):
        # A UUID of version 7, as old as the grant itself.
        made = model[1][:6] + (0x7000_8000_0000_0000_0000 + number).to_bytes(10, "big")
        label = f"order-{number:05}"
        rows.append(tuple((row | {"id": made, "label": label, "label_search": label}).values()))
    with database:
        database.executemany(f"INSERT INTO grants VALUES ({', '.join('?' * len(columns))})", rows)
    database.close()


# Pages that need more than an address: a link, an answer of an issuer, what is being set up; and one that is none.
NEEDS_MORE = {"Start", "SignInShow", "SsoBack", "BrandingPreview", "TotpNew", "PasskeyNew"}


def rows() -> list[tuple[str, str]]:
    """Every page of the portal's table: its name, and its path."""
    table = (SERVER / "src" / "portal" / "routes.rs").read_text()
    found = re.findall(r'row\(Screen::(\w+), "GET", "([^"]+)"', table)
    assert len(found) > 40
    return found


def templates() -> set[str]:
    """Every template that a page is drawn by, and no part of one."""
    files = (SERVER / "templates" / "portal").glob("*.html")
    whole = ('{% extends "portal/layout.html" %}', '{% extends "portal/outside.html" %}')
    return {f"portal/{file.name}" for file in files if file.read_text().startswith(whole)}


def pages(dev: dict, api: Api) -> dict[str, str]:
    """An address, under the portal's, for every page of its table, by the name of the page."""
    app = f"apps/{dev['app_id']}"
    objects = {
        "keys": api.find(f"{app}/keys?search=storefront")["id"],
        "providers": "google",
        "providers/new": "microsoft",
        "secrets": api.find(f"{app}/managed-secrets?search=stripe")["id"],
        "secrets/new": "stripe",
        "grants": dev["grant_id"],
        "identity": api.find(f"{app}/identity-providers?search=staff")["id"],
        "identity/new": "auth0",
        "users": api.find(f"{app}/users?search=ada")["id"],
        "members": api.find("operators?search=jonas")["id"],
        "tokens": api.find("tokens")["id"],
    }
    events = {"Event": f"{app}/audit/events?kind=token.denied&limit=1", "OrganizationEvent": "audit/events?limit=1"}
    found = {}
    for name, path in rows():
        if name in NEEDS_MORE:
            continue
        path = path.removeprefix("/portal").replace("/apps/{}", f"/{app}")
        if "{}" in path:
            before = path.split("/{}")[0].removeprefix(f"/{app}").strip("/")
            path = path.replace("{}", api.find(events[name])["id"] if name in events else objects[before])
        found[re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()] = path
    found["connected"] += "?error_code=connect_denied"
    return found
