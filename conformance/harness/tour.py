"""Pages of the portal that need more than an address, one after the other: what is shown once, what leads elsewhere, how one signs in. Who
goes along is handed each of them, with its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from playwright.async_api import Page, Route

from harness.authorization_server import AuthorizationServer
from harness.portal import PASSWORD, Api, an_hour_later, running, totp

Look = Callable[[Page, str], Awaitable[None]]
# The tab of somebody who is not signed in.
Tab = Callable[[], Awaitable[Page]]
ISSUER_NAME = "Halden ID"


@contextmanager
def running_with_issuer(binary: str, tmp_path: Path, server: AuthorizationServer) -> Iterator[dict]:
    """A `dev` where operators sign in at the server, too: its account `alice` is one of them."""
    client = server.client("http://127.0.0.1/until/the/port/is/known")
    secret = tmp_path / "secret"
    secret.write_text(client.secret + "\n")
    settings = {
        "GRANTD_SSO_ISSUER": server.url,
        "GRANTD_SSO_CLIENT_ID": client.id,
        "GRANTD_SSO_CLIENT_SECRET_FILE": str(secret),
        "GRANTD_SSO_NAME": ISSUER_NAME,
        "GRANTD_OUTBOUND_ALLOW": server.authority,
    }
    with running(binary, tmp_path, **settings) as dev:
        back = dev["base_url"] + "/portal/sign-in/sso"
        client.configure(secret=client.secret, redirect_uris=[back], auth=client.auth)
        Api(dev).call("POST", "operators", {"email": "alice@example.test", "role": "viewer"})
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


async def outside(page: Page, dev: dict, look: Look) -> None:
    """Pages of who is not signed in."""
    for name, path in {
        "sign-in": "/sign-in",
        "sign-in-stale": "/sign-in?link=login_x",
        "trouble-outside": "/none/of/these",
        "sso-stale": "/sign-in/sso?state=x&code=x",
    }.items():
        await page.goto(dev["portal_url"] + path)
        await look(page, name)
    await page.goto(dev["login_url"])
    await look(page, "sign-in-link")


async def made_once(page: Page, dev: dict, found: dict[str, str], look: Look) -> None:
    """What is shown once, by the form that makes it."""
    for name, path, fields, button in (
        ("key-minted", found["key-new"], {"name": "Booking service"}, "Create key"),
        ("token-minted", "/tokens/new", {"name": "Deployments"}, "Create token"),
        ("member-link", "/members/new", {"email": "nora@halden.example"}, "Invite"),
    ):
        await page.goto(dev["portal_url"] + path)
        for field, value in fields.items():
            await page.locator(f"#{field}").fill(value)
        await page.locator("main").get_by_role("button", name=button).click()
        await page.locator("output").wait_for()
        await look(page, name)
    await page.goto(dev["portal_url"] + found["idp"])
    await page.get_by_role("button", name="Make another token").first.click()
    await page.locator("output").wait_for()
    await look(page, "idp-token")


async def issuers(page: Page, dev: dict, look: Look) -> None:
    """Only a form leads to what an issuer says: that of the demo provider."""
    provider = Api(dev).find(f"apps/{dev['app_id']}/providers?search=demo")
    await page.goto(f"{dev['portal_url']}/apps/{dev['app_id']}/identity/new/oidc")
    await page.get_by_label("Issuer").fill(provider["custom"]["issuer"])
    await page.get_by_role("button", name="Look at the issuer").click()
    await page.get_by_role("heading", name="What the issuer says").wait_for()
    await look(page, "idp-look")


async def leaving(page: Page, dev: dict, found: dict[str, str], look: Look) -> None:
    """To the provider, by oneself or by a link."""
    await page.goto(dev["portal_url"] + found["provider"])
    await page.get_by_role("button", name="Make a link").click()
    await page.locator("#connect-link").wait_for()
    await look(page, "connect-link")
    await page.goto(dev["portal_url"] + found["provider"])
    async with staying(page, "**/connect"):
        await page.get_by_role("button", name="Connect", exact=True).click()
        await page.locator("[data-template='portal/connect_leave.html']").wait_for()
        await look(page, "connect-leave")


async def account(tab: Tab, page: Page, dev: dict, look: Look) -> None:
    """How one signs in, and is asked again."""
    await page.goto(dev["portal_url"] + "/account/passkeys/new")
    await look(page, "passkey-new")
    await page.goto(dev["portal_url"] + "/account")
    await page.get_by_label("New password").fill(PASSWORD)
    await page.get_by_role("button", name="Set password").click()
    await page.get_by_text("The password is set").wait_for()
    await page.get_by_role("button", name="Set up an app").click()
    secret = await page.locator("#secret").text_content()
    await look(page, "totp-new")
    await page.get_by_label("Code").fill(totp(secret))
    await page.get_by_role("button", name="Turn it on").click()
    await page.get_by_role("heading", name="Keep these recovery codes").wait_for()
    await look(page, "totp-codes")
    other = await tab()
    await other.goto(dev["portal_url"] + "/sign-in")
    await other.get_by_label("E-mail address").fill("operator@localhost")
    await other.get_by_label("Password").fill(PASSWORD)
    await other.get_by_role("button", name="Sign in", exact=True).click()
    await other.locator("#code").wait_for()
    await look(other, "sign-in-code")
    an_hour_later(dev)
    await page.goto(dev["portal_url"] + "/account")
    await page.get_by_role("button", name="Remove password").click()
    await page.get_by_role("heading", name="Is it still you?").wait_for()
    await look(page, "confirm")


async def at_the_issuer(tab: Tab, dev: dict, look: Look) -> None:
    """There, back, and there again."""
    page = await tab()
    await page.goto(dev["portal_url"] + "/account")
    async with staying(page, "**/portal/sign-in/sso"):
        await page.get_by_role("button", name=f"Sign in with {ISSUER_NAME}").click()
        await page.locator("[data-template='portal/sso_leave.html']").wait_for()
        await look(page, "sso-leave")
    # The issuer's redirect cannot be held, but where the page behind it leads to can: nothing comes of that, and it stays.
    ahead = "**/portal/account"
    await page.route(ahead, lambda route: route.fulfill(status=204))
    await page.get_by_role("link").first.click()
    await page.get_by_label("Account").fill("alice")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Allow").click()
    await page.locator("[data-template='portal/sso_back.html']").wait_for()
    await look(page, "sso-back")
    await page.unroute(ahead)
    await page.get_by_role("link").first.click()
    await page.get_by_role("heading", name="Your account", level=1).wait_for()
    an_hour_later(dev)
    await page.get_by_role("button", name="Remove binding").click()
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name=f"Prove it with {ISSUER_NAME}").click()
    window = await opened.value
    await window.get_by_label("Account").fill("alice")
    await window.get_by_role("button", name="Sign in").click()
    await window.get_by_role("heading", name="It is still you").wait_for()
    await look(window, "sso-confirmed")
