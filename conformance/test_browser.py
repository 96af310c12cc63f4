"""The browser of the tests and the page that embeds the official browser client, shown without grantd: in its place
stands a page that answers what a test tells it to."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest

from harness import browser, node
from harness.browser import DESKTOP, PHONE, Browsing, HostPage

GRANT = {"grant_id": "g-1", "provider": "acme", "account_identifier": "alice@example.test"}


class StandIn:
    """Answers every path with one page."""

    def __init__(self) -> None:
        self.html = ""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                # As strict as a page that handles credentials: the checker must get past it.
                self.send_header("Content-Security-Policy", f"default-src 'none'; script-src {stand_in.script_hash()}")
                self.end_headers()
                self.wfile.write(stand_in.html.encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.script = ""

    def script_hash(self) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()}'"

    def show(self, body: str, script: str = "") -> None:
        self.script = script
        self.html = (
            f'<!doctype html><html lang="en"><head><title>Stand-in</title></head>'
            f"<body><main>{body}</main><script>{script}</script></body></html>"
        )

    def posts(self, message: dict) -> None:
        """A page that tells its opener, as Connect does."""
        self.show("<h1>Done</h1>", f"opener.postMessage({json.dumps(message)}, '*')")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


async def test_a_popup_tells_the_page_of_success(browsing: Browsing, host_page: HostPage, stand_in: StandIn):
    host_page.token, host_page.base = "sess_a b", stand_in.url
    stand_in.posts({"type": "alter_connect_success", "grants": [GRANT]})
    tab = await browsing.tab()
    await tab.goto(host_page.url)
    async with tab.expect_popup() as opened:
        await tab.get_by_role("button", name="Connect an account").click()
    assert (await host_page.told(tab, "success"))[0].items() >= GRANT.items()
    popup = await opened.value
    assert popup.url == f"{stand_in.url}/sdk/oauth/connect#session=sess_a%20b"
    assert await host_page.all_told(tab) == ["event", "success"]


async def test_a_popup_tells_the_page_of_failure(browsing: Browsing, host_page: HostPage, stand_in: StandIn):
    host_page.base = stand_in.url
    host_page.token = "sess_x"
    stand_in.posts({"type": "alter_connect_error", "error": "connect_denied", "error_description": "No."})
    tab = await browsing.tab()
    await tab.goto(host_page.url)
    await tab.get_by_role("button", name="Connect an account").click()
    assert (await host_page.told(tab, "error"))["code"] == "connect_denied"


async def test_a_closed_popup_is_an_exit(browsing: Browsing, host_page: HostPage, stand_in: StandIn):
    host_page.token, host_page.base = "sess_x", stand_in.url
    stand_in.show("<h1>Choose</h1>")
    tab = await browsing.tab()
    await tab.goto(host_page.url)
    async with tab.expect_popup() as opened:
        await tab.get_by_role("button", name="Connect an account").click()
    await (await opened.value).close()
    assert await host_page.told(tab, "exit") is None
    assert await host_page.all_told(tab) == ["event", "exit"]


async def test_a_phone_goes_there_and_comes_back(browsing: Browsing, host_page: HostPage, stand_in: StandIn):
    host_page.token, host_page.base = "sess_x", stand_in.url
    back = f"{host_page.url}/done?{urlencode({'alter_connect_success': 'true', **GRANT})}"
    stand_in.show(f'<h1>Connected</h1><a href="{back.replace("&", "&amp;")}">Back</a>')
    tab = await browsing.tab(PHONE)
    await tab.goto(f"{host_page.url}/start")
    await tab.get_by_role("button", name="Connect an account").click()
    await tab.wait_for_url(f"{stand_in.url}/**")
    assert len(tab.context.pages) == 1
    await tab.get_by_role("link", name="Back").click()
    # The client takes the answer out of the address, and puts back the page it left.
    await tab.wait_for_url(f"{host_page.url}/start")
    assert any(path.startswith("/done?alter_connect_success=true") for path in host_page.requests)


async def test_people_share_no_cookies(browsing: Browsing, host_page: HostPage):
    one, other = await browsing.tab(), await browsing.tab()
    for tab in (one, other):
        await tab.goto(host_page.url)
    await one.evaluate("document.cookie = 'a=b'")
    assert await one.evaluate("document.cookie") == "a=b"
    assert await other.evaluate("document.cookie") == ""


async def test_axe_finds_what_is_wrong_and_nothing_else(browsing: Browsing, stand_in: StandIn):
    tab = await browsing.tab(DESKTOP)
    stand_in.show("<h1>All is well</h1><button>Go</button>")
    await tab.goto(stand_in.url)
    assert await browsing.violations(tab) == []
    stand_in.show('<h1>Not so</h1><button></button><p style="color:#ccc;background:#fff">faint</p><img src="x">')
    await tab.goto(stand_in.url)
    assert {"button-name", "image-alt"} <= {violation.rule for violation in await browsing.violations(tab)}


async def test_axe_runs_where_the_page_may_not_run_scripts(browsing: Browsing, stand_in: StandIn):
    tab = await browsing.tab(java_script_enabled=False)
    body = "<h1>No script</h1><button></button><noscript><img src='x'></noscript>"
    stand_in.show(body, "document.title = 'changed'; document.querySelector('button').textContent = 'Go'")
    await tab.goto(stand_in.url)
    assert await tab.title() == "Stand-in"
    assert [violation.rule for violation in await browsing.violations(tab)] == ["button-name", "image-alt"]


async def test_a_screenshot_has_the_size_of_the_device(browsing: Browsing, host_page: HostPage, monkeypatch, tmp_path):
    monkeypatch.setenv("GRANTD_TEST_SCREENSHOTS", str(tmp_path))
    for device, size in ((DESKTOP, (1280, 800)), (PHONE, (780, 1688))):
        tab = await browsing.tab(device)
        await tab.goto(host_page.url)
        picture = (await browser.screenshot(tab, "host page")).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture[16:24]) == size


def test_the_browser_client_is_the_published_one(node_modules: str):
    """What was installed is what the lock file names; npm has checked the hash of each package."""
    installed = json.loads((node.modules() / ".package-lock.json").read_text())["packages"]
    locked = json.loads((node.modules().parent / "package-lock.json").read_text())["packages"]
    for name, version in (("@alter-ai/connect", "0.8.0"), ("oidc-provider", "9.13.3"), ("axe-core", "4.14.1")):
        entry = f"node_modules/{name}"
        assert installed[entry]["version"] == locked[entry]["version"] == version
        assert installed[entry]["integrity"] == locked[entry]["integrity"]
