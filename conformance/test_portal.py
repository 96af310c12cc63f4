"""The portal in a real browser, on `grantd dev`: from the link it prints to the first request, in at most twelve clicks; every page
judged by axe, on a desktop and a phone, in both themes. Pictures of every page are kept: look at them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alter_sdk import GrantRevokedError
from playwright.async_api import Page, expect

from harness import http as plain
from harness.authorization_server import AuthorizationServer
from harness.browser import DESKTOP, PHONE, Browsing, screenshot
from harness.portal import PASSWORD, Clicker, an_hour_later, running, sign_in, totp
from harness.server import Grantd
from harness.tap import Tap
from harness.world import World

# `dev` is the same whatever database the other tests use.
pytestmark = pytest.mark.one_engine

CLICKS_MAX = 12


@pytest.fixture
def dev(binary: str, tmp_path: Path) -> Iterator[dict]:
    """A `dev` of the test's own."""
    with running(binary, tmp_path) as dev:
        yield dev


DEVICES = {"desktop": DESKTOP, "phone": PHONE}
# Each device and each theme once.
LOOKS = pytest.mark.parametrize("device, theme", [("desktop", "light"), ("phone", "dark")])


async def who_copies(browsing: Browsing, dev: dict, device: str, theme: str) -> Clicker:
    """Somebody who is signed in, and whose browser lets the test read what they copied."""
    context = await browsing.person(DEVICES[device], color_scheme=theme)
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=dev["base_url"])
    return await sign_in(await context.new_page(), dev)


async def make_an_app(person: Clicker) -> str:
    """An app and its key; what its page has one paste into a terminal."""
    await person.click("link", "Create app")
    await person.type("name", "Shop")
    await person.click("button", "Create app")
    await person.click("button", "Create key")
    exports = await person.copy("exports")
    await person.click("link", "I have copied it")
    await person.click("link", "Choose what to store")
    return exports


async def go_to(page: Page, place: str, device: str) -> None:
    """By the navigation, which a phone has behind a button."""
    if device == "phone":
        await page.get_by_role("button", name="Open navigation").click()
    await page.locator("nav[aria-labelledby='nav-app'] a", has_text=place).click()


@LOOKS
async def test_the_first_request_takes_at_most_twelve_clicks(
    browsing: Browsing, dev: dict, tmp_path: Path, device: str, theme: str
):
    person = await who_copies(browsing, dev, device, theme)
    page = person.page
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    exports = await make_an_app(person)
    await person.click("link", "Stripe")
    await person.type("value", "sk_test_example")
    await person.click("button", "Store secret")
    await page.get_by_text("No call yet").wait_for()
    # What the pages gave to be copied is done to the letter.
    (tmp_path / "first.py").write_text(await person.copy("snippet-python"))
    lines = await person.copy("snippet-shell")
    assert person.clicks <= CLICKS_MAX, person.clicks
    await paste(exports + lines, tmp_path)
    # The page says so by itself.
    await page.get_by_text("It arrived, and was allowed").wait_for()
    assert [str(violation) for violation in await browsing.violations(page)] == []
    await screenshot(page, f"portal-arrived-{device}")
    await page.get_by_role("link", name="See why").click()
    await page.get_by_role("heading", name="token.released").wait_for()
    await page.get_by_text("The credential may go to this host.").wait_for()
    # The audit follows, too: what comes now stands there without a reload.
    await go_to(page, "Grants", device)
    await page.locator("td.main a").first.click()
    await page.get_by_role("link", name="Revoke grant").click()
    await page.get_by_label("Reason").fill("a test")
    await page.get_by_role("button", name="Revoke 1 grant").click()
    await page.get_by_text("The grant is revoked").wait_for()
    await go_to(page, "Audit", device)
    await page.mouse.move(0, 0)
    # Held, it stays as it is; let go, it goes on, and says aloud what came.
    await page.get_by_role("button", name="Pause").click()
    said = await paste(exports + lines, tmp_path)
    assert "GrantRevokedError" in said, said
    assert await page.get_by_text("grant_revoked").count() == 0
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_text("grant_revoked").first.wait_for()
    await expect(page.locator("[data-live-says]")).to_have_text(re.compile(r"^New events: [1-9]"))
    await page.locator("tr", has_text="grant_revoked").get_by_role("link").first.click()
    await page.locator("li.no").get_by_text("The grant was revoked").wait_for()
    assert refused == []


async def test_the_first_request_is_answered_by_the_vendor(browsing: Browsing, dev: dict, tmp_path: Path):
    person = await who_copies(browsing, dev, "desktop", "light")
    page = person.page
    exports = await make_an_app(person)
    await person.click("link", "Something else")
    await person.type("name", "Demo")
    await page.locator("#value").fill("a-token-of-the-demo")
    await page.get_by_label("Hosts").fill(urlsplit(dev["demo_url"]).netloc)
    await person.click("button", "Store secret")
    await page.get_by_text("No call yet").wait_for()
    (tmp_path / "first.py").write_text(await person.copy("snippet-python"))
    lines = await person.copy("snippet-shell")
    # A key of which a part was copied is told of by the terminal, and the page says what that means.
    said = await paste(exports.rstrip()[:-4] + "\n" + lines, tmp_path)
    assert "AlterSDKError" in said, said
    assert "KeyError" in await paste(lines, tmp_path)
    hint = await page.locator("#arrival").text_content()
    key = exports.strip().rpartition("=")[2]
    assert "AlterSDKError" in hint and "KeyError" in hint and f"{len(key)} characters" in hint, hint
    # In another terminal, a line waits for the key.
    await page.get_by_text("The terminal does not have the key?").click()
    waits = await person.copy("snippet-key")
    said = await paste(waits + lines, tmp_path, typed=key)
    assert re.search(r"^200 ", said, re.MULTILINE) and key not in said, said
    await page.get_by_text("It arrived, and was allowed").wait_for()


async def paste(lines: str, directory: Path, typed: str = "") -> str:
    """What a terminal shows of these lines, and of what is typed when one of them waits. Programs are those of the tests, and no package's
    index and no vendor is in reach."""
    away = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ALTER_", "GRANTD_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        lines,
        cwd=directory,
        env={**clean, **away, "PATH": path},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(f"{typed}\n".encode())
    return said.decode()


@LOOKS
async def test_a_provider_is_set_up_connected_revoked_and_the_refusal_found(
    browsing: Browsing, world: World, authorization_server: AuthorizationServer, device: str, theme: str
):
    """The journey from a provider's registration to the reason of a refused call, at a real authorization server."""
    server = world.server
    where = ("--data-dir", str(server.data_dir), *server.database_flags)
    link = server._local("operator", "login-link", *where, "--output", "json")["login_url"].split("?link=")[1]
    page = await browsing.tab(DEVICES[device], color_scheme=theme)
    portal = f"{server.url}/portal"
    await page.goto(f"{portal}/sign-in?link={link}")
    await page.get_by_role("button", name="Sign in").click()
    app = f"{portal}/apps/{world.app_id}"
    await page.goto(f"{app}/providers")
    await page.get_by_role("link", name="Describe another provider").click()
    # What is registered there stands beside the fields.
    redirect_uri = await page.locator("#redirect-uri").input_value()
    client = authorization_server.client(redirect_uri)
    await page.get_by_label("Name", exact=True).fill("Example Accounts")
    await page.get_by_label("Id", exact=True).fill("real")
    await page.get_by_label("Client id").fill(client.id)
    await page.locator("#client_secret").fill(client.secret)
    await page.get_by_label("Issuer").fill(f"{authorization_server.url}/nothing-here")
    await page.get_by_label("Allowed hosts").fill(authorization_server.authority)
    await page.locator("#scopes").fill("openid email mail.read")
    await page.get_by_role("button", name="Set up provider").click()
    # What is wrong stands at its field, and what was typed is still there, but for the secret.
    error = page.locator("[id='custom.issuer-error']")
    await error.wait_for()
    assert await page.get_by_label("Client id").input_value() == client.id
    assert await page.locator("#client_secret").input_value() == ""
    await screenshot(page, f"portal-provider-refused-{device}")
    await page.get_by_label("Issuer").fill(authorization_server.url)
    await page.locator("#client_secret").fill(client.secret)
    await page.get_by_role("button", name="Set up provider").click()
    await page.get_by_text("The provider is registered").wait_for()
    assert [str(violation) for violation in await browsing.violations(page)] == []
    await screenshot(page, f"portal-provider-{device}")
    # As its users do, and back.
    await page.get_by_role("button", name="Connect", exact=True).click()
    await page.get_by_role("button", name="Continue to Example Accounts").click()
    await page.get_by_label("Account").fill("alice")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Allow").click()
    await page.get_by_text("The account is connected").wait_for()
    assert [str(violation) for violation in await browsing.violations(page)] == []
    await screenshot(page, f"portal-grant-connected-{device}")
    grant_id = await page.locator("#grant-id").text_content()
    api_url = f"{authorization_server.url}/api/mail"
    async with world.vault() as vault:
        answer = await vault.request("GET", api_url, grant_id=grant_id)
        assert answer.json()["account"] == "alice"
        await page.get_by_role("link", name="Revoke grant").click()
        await page.get_by_label("Reason").fill("the journey ends")
        await page.get_by_role("button", name="Revoke 1 grant").click()
        await page.get_by_text("The grant is revoked").wait_for()
        with pytest.raises(GrantRevokedError):
            await vault.request("GET", api_url, grant_id=grant_id)
    await page.goto(f"{app}/audit?outcome=denied")
    await page.locator("tr", has_text="grant_revoked").get_by_role("link").first.click()
    await page.locator("li.no").get_by_text("The grant was revoked").wait_for()
    # Removed, now that nothing of it lives.
    await page.goto(f"{app}/providers/real/delete")
    await page.get_by_role("button", name="Remove provider").click()
    await page.get_by_text("The provider is removed").wait_for()


async def test_a_look_is_seen_while_it_is_typed(browsing: Browsing, dev: dict):
    page = await browsing.tab()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    await sign_in(page, dev)
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/branding")
    button = page.locator(".preview .btn--primary")
    red = ("background-color", "rgb(176, 0, 32)")
    await expect(button).not_to_have_css(*red)
    await page.locator("#accent_color").fill("#b00020")
    await page.locator("#display_name").fill("Halden Books")
    await page.get_by_text("Let Halden Books use your Google account?").wait_for()
    await expect(button).to_have_css(*red)
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("The look is changed").wait_for()
    await expect(button).to_have_css(*red)
    assert refused == []


async def test_the_portal_speaks_german_to_whoever_asks_for_it(browsing: Browsing, dev: dict):
    page = await browsing.tab(DESKTOP, locale="de-DE")
    await page.goto(dev["login_url"])
    await page.get_by_role("button", name="Anmelden").click()
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    assert await page.locator("html").get_attribute("lang") == "de"
    found = {}
    for name, path in pages(dev).items():
        await page.goto(dev["portal_url"] + path)
        await screenshot(page, f"portal-de-{name}")
        violations = [str(violation) for violation in await browsing.violations(page)]
        if violations:
            found[name] = violations
    assert found == {}
    # Chosen in the menu, it stays.
    await page.goto(f"{dev['portal_url']}/apps")
    await page.locator("details.menu summary").click()
    await page.get_by_role("button", name="English").click()
    await page.get_by_role("link", name="Create app").first.wait_for()
    assert await page.locator("html").get_attribute("lang") == "en"


def pages(dev: dict) -> dict[str, str]:
    app = f"/apps/{dev['app_id']}"
    return {
        "apps": "/apps",
        "app-new": "/apps/new",
        "home": app,
        "start": f"{app}/start",
        "keys": f"{app}/keys",
        "key-new": f"{app}/keys/new",
        "providers": f"{app}/providers",
        "providers-found": f"{app}/providers?search=s",
        "provider-new": f"{app}/providers/new/slack",
        "provider-custom": f"{app}/providers/new/custom",
        "connect-nothing": f"{app}/connected?error_code=connect_denied",
        "secrets": f"{app}/secrets",
        "catalogue": f"{app}/secrets/new",
        "secret-new": f"{app}/secrets/new/stripe",
        "secret-custom": f"{app}/secrets/new/custom",
        "grants": f"{app}/grants",
        "grant": f"{app}/grants/{dev['grant_id']}",
        "grant-revoke": f"{app}/grants/{dev['grant_id']}/revoke",
        "identity": f"{app}/identity",
        "identity-new": f"{app}/identity/new/auth0",
        "users": f"{app}/users",
        "branding": f"{app}/branding",
        "app-settings": f"{app}/settings",
        "app-delete": f"{app}/delete",
        "audit": f"{app}/audit",
        "audit-filtered": f"{app}/audit?grant={dev['grant_id']}",
        "audit-export": f"{app}/audit/export",
        "app-overview": f"{app}/overview",
        "app-settings": f"{app}/settings",
        "overview": "/overview",
        "overview-month": "/overview?range=30d",
        "members": "/members",
        "member-new": "/members/new",
        "tokens": "/tokens",
        "token-new": "/tokens/new",
        "organization-audit": "/audit",
        "settings": "/settings",
        "sessions": "/sessions",
        "account": "/account",
        "nothing": "/nothing",
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
async def test_every_page_is_accessible(browsing: Browsing, dev: dict, device: str, theme: str):
    page = await browsing.tab({"desktop": {"viewport": {"width": 1440, "height": 900}}, "phone": PHONE}[device], color_scheme=theme)
    found = {}

    async def look(name: str) -> None:
        await screenshot(page, f"portal-{name}-{device}-{theme}")
        violations = [str(violation) for violation in await browsing.violations(page)]
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            violations.append(f"the page is {wide} px wider than the window")
        if violations:
            found[name] = violations

    await page.goto(dev["portal_url"])
    await look("sign-in")
    await page.goto(dev["login_url"])
    await look("link")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    for name, path in pages(dev).items():
        await page.goto(dev["portal_url"] + path)
        await look(name)
    await page.goto(dev["portal_url"] + pages(dev)["audit"])
    await page.locator("td.main a").first.click()
    await page.get_by_text("Proof").wait_for()
    await look("event")
    await page.goto(dev["portal_url"] + "/account")
    await page.get_by_label("New password").fill("too short")
    await page.get_by_role("button", name="Set password").click()
    await page.locator("#password-error").wait_for()
    await look("account-refused")
    await page.get_by_label("New password").fill(PASSWORD)
    await page.get_by_role("button", name="Set password").click()
    await page.get_by_text("The password is set").wait_for()
    await look("account-set")
    await page.get_by_role("button", name="Set up an app").click()
    secret = await page.locator("#secret").text_content()
    await look("authenticator")
    await page.get_by_label("Code").fill("12345")
    await page.get_by_role("button", name="Turn it on").click()
    await page.locator("#code-error").wait_for()
    await look("authenticator-refused")
    await page.get_by_label("Code").fill(totp(secret))
    await page.get_by_role("button", name="Turn it on").click()
    await page.get_by_role("heading", name="Keep these recovery codes").wait_for()
    await look("recovery-codes")
    await page.get_by_role("link", name="I have kept them").click()
    await page.get_by_text("10 recovery codes are left").wait_for()
    await look("account-authenticator")
    an_hour_later(dev)
    await page.get_by_role("button", name="Remove password").click()
    await page.get_by_role("heading", name="Is it still you?").wait_for()
    await look("confirm")
    if device == "phone":
        await page.get_by_role("button", name="Open navigation").click()
        await look("navigation")
    assert found == {}


@pytest.mark.parametrize("script", [True, False])
async def test_a_password_signs_in_and_is_asked_again(browsing: Browsing, dev: dict, script: bool):
    page = await browsing.tab(DESKTOP, java_script_enabled=script)
    await sign_in(page, dev)
    email = "operator@localhost"
    await page.get_by_role("link", name="Set a password").click()
    await page.get_by_label("New password").fill(PASSWORD)
    await page.get_by_role("button", name="Set password").click()
    await page.get_by_text("The password is set").wait_for()
    other = await browsing.tab(PHONE, java_script_enabled=script)
    keys = dev["portal_url"] + f"/apps/{dev['app_id']}/keys"
    await other.goto(keys)
    await other.get_by_label("E-mail address").fill(email)
    await other.get_by_label("Password").fill("not this one at all")
    await other.get_by_role("button", name="Sign in").click()
    await other.get_by_text("password is wrong").wait_for()
    assert await other.get_by_label("E-mail address").input_value() == email
    await other.get_by_label("Password").fill(PASSWORD)
    await other.get_by_role("button", name="Sign in").click()
    # Where they wanted to go.
    await other.get_by_role("heading", name="API keys", level=1).wait_for()
    an_hour_later(dev)
    await other.goto(keys)
    await other.get_by_role("link", name="Revoke").first.click()
    await other.get_by_role("button", name="Revoke key").click()
    await other.get_by_role("heading", name="Is it still you?").wait_for()
    await other.get_by_label("Password").fill(PASSWORD)
    await other.get_by_role("button", name="Go on").click()
    await other.get_by_text("The key is revoked").wait_for()


async def test_a_passkey_signs_in_and_is_asked_again(browsing: Browsing, private_server: Callable[..., Grantd]):
    # Browsers have passkeys for hosts with a name. Whoever forwards has the port before the server is told of it.
    tap = Tap("http://127.0.0.1:9")
    portal = f"http://localhost:{tap.port}/portal"
    server = private_server(env={"GRANTD_PUBLIC_URL": f"http://localhost:{tap.port}"}, start=False).start()
    tap.server_url = server.url
    where = ("--data-dir", str(server.data_dir), *server.database_flags)
    link = server._local("operator", "login-link", *where, "--output", "json")["login_url"].split("?link=")[1]
    page = await browsing.tab(DESKTOP)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    device = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    device |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": device})
    broken = []

    async def look(name: str) -> None:
        await screenshot(page, f"portal-{name}")
        broken.extend(map(str, await browsing.violations(page)))

    async def sign_out() -> None:
        await page.locator("details.menu summary").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("button", name="Use a passkey").wait_for()

    await page.goto(f"{portal}/sign-in?link={link}")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    await page.goto(f"{portal}/account")
    await page.get_by_role("button", name="Add a passkey").click()
    await page.get_by_label("Name").fill("Phone")
    await look("passkey-new")
    # Enter asks the device, too.
    await page.get_by_label("Name").press("Enter")
    await page.get_by_text("The passkey is added").wait_for()
    await look("account-passkey")
    await sign_out()
    await look("sign-in-passkey")
    await page.get_by_role("button", name="Use a passkey").click()
    await page.get_by_role("heading", name="Apps", level=1).wait_for()
    await page.goto(f"{portal}/sessions")
    await page.get_by_role("cell", name="Passkey", exact=True).wait_for()
    await page.goto(f"{portal}/account")
    an_hour_later({"data_dir": server.data_dir})
    await page.get_by_role("button", name="Remove passkey Phone").click()
    await page.get_by_role("heading", name="Is it still you?").wait_for()
    await look("confirm-passkey")
    await page.get_by_role("button", name="Use a passkey").click()
    await page.get_by_text("The passkey is removed").wait_for()
    await sign_out()
    await page.get_by_role("button", name="Use a passkey").click()
    await page.get_by_text("That passkey does not sign in here").wait_for()
    plain = await browsing.tab(DESKTOP, java_script_enabled=False)
    await plain.goto(f"{portal}/sign-in")
    await plain.get_by_text("Passkeys need JavaScript").wait_for()
    assert await plain.get_by_role("button", name="Use a passkey").count() == 0
    tap.close()
    assert broken == []


async def test_an_operator_signs_in_at_an_issuer_and_proves_it_again_there(
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
        headers = {"Authorization": f"Bearer {dev['pat']}", "Content-Type": "application/json"}
        invited = json.dumps({"email": "alice@example.test", "role": "viewer"}).encode()
        assert plain.call("POST", dev["base_url"] + "/api/v1/operators", headers=headers, body=invited).status == 201

        page = await browsing.tab(PHONE)

        async def look(name: str) -> None:
            assert [str(violation) for violation in await browsing.violations(page)] == [], name
            await screenshot(page, f"portal-sso-{name}")

        async def signs_in(tab: Page, account: str) -> None:
            await tab.get_by_label("Account").fill(account)
            await tab.get_by_role("button", name="Sign in").click()

        await page.goto(dev["portal_url"] + "/account")
        await look("sign-in")
        await page.get_by_role("button", name="Sign in with Halden ID").click()
        await signs_in(page, "alice")
        await page.get_by_role("button", name="Allow").click()
        # Where they wanted to go, signed in although another site sent the browser.
        await page.get_by_role("heading", name="Your account", level=1).wait_for()
        await page.get_by_text("You sign in with Halden ID").wait_for()
        await look("account")
        an_hour_later(dev)
        await page.get_by_role("button", name="Remove binding").click()
        await page.get_by_role("heading", name="Is it still you?").wait_for()
        await look("confirm")
        async with page.context.expect_page() as opened:
            await page.get_by_role("button", name="Prove it with Halden ID").click()
        window = await opened.value
        # The issuer asks, although it knows who is signed in there.
        await signs_in(window, "alice")
        await window.get_by_role("heading", name="It is still you").wait_for()
        assert [str(violation) for violation in await browsing.violations(window)] == []
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_text("The binding is removed").wait_for()
        # Somebody whom nobody invited.
        stranger = await browsing.tab(DESKTOP)
        await stranger.goto(dev["portal_url"])
        await stranger.get_by_role("button", name="Sign in with Halden ID").click()
        await signs_in(stranger, "mallory")
        await stranger.get_by_role("button", name="Allow").click()
        await stranger.get_by_role("heading", name="You are not an operator here").wait_for()
        assert [str(violation) for violation in await browsing.violations(stranger)] == []
    assert client.secret not in (tmp_path / "log").read_text()


async def test_every_page_works_without_script(browsing: Browsing, dev: dict):
    page = await browsing.tab(DESKTOP, java_script_enabled=False)
    await sign_in(page, dev)
    for path in pages(dev).values():
        answer = await page.goto(dev["portal_url"] + path)
        assert answer.status == (404 if path == "/nothing" else 200), path
    app = dev["portal_url"] + f"/apps/{dev['app_id']}"
    await page.goto(f"{app}/keys/new")
    await page.get_by_label("Name").fill("Without")
    await page.get_by_role("button", name="Create key").click()
    assert (await page.locator("output").text_content()).startswith("alter_rk_")
    await page.locator("details.menu summary").click()
    await page.get_by_role("button", name="Dark").click()
    assert await page.locator("html").get_attribute("data-theme") == "dark"
