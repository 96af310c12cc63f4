"""A real Chromium, driven by Playwright, and a page of somebody's own that embeds the official browser client.

A test that takes the fixture `browsing` is a coroutine: all of them run in the one event loop that Playwright's
objects belong to. Each test has browser contexts of its own: no cookie, no storage of another's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright

from harness import node

# As Debian, Ubuntu, Fedora and the vendor call it.
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It shall not look for its maker's servers, and as root it cannot put itself into a sandbox.
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
ACTION_MILLISECONDS_MAX = 20_000
CHECK_SECONDS_MAX = 60
TEST_SECONDS_MAX = 240
COLOR_SCHEME = "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
# What `@alter-ai/connect` takes for a phone: it navigates instead of opening a popup.
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
    "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
}


def chromium() -> str:
    """The browser: `GRANTD_TEST_CHROMIUM`, else the first that is on the path."""
    named = os.environ.get("GRANTD_TEST_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    assert found, "no Chromium here; on Debian: apt-get install chromium, or name one in GRANTD_TEST_CHROMIUM"
    return found


@dataclass
class Violation:
    """What axe found: a rule and where it is broken."""

    rule: str
    impact: str
    targets: list[str]
    help: str

    def __str__(self) -> str:
        return f"{self.rule} ({self.impact}): {self.help}: {', '.join(self.targets)}"


class Browsing:
    """One Chromium for the session, in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._axe = (node.modules() / "axe-core" / "axe.min.js").read_text()
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._contexts: list[BrowserContext] = []
        self._scriptless: set[BrowserContext] = set()
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(executable_path=chromium(), args=FLAGS)

    def run(self, test: Any, seconds_max: int = TEST_SECONDS_MAX) -> None:
        """Runs a test to its end, and closes what it opened."""
        self._loop.run_until_complete(self._run(test, seconds_max))

    async def _run(self, test: Any, seconds_max: int) -> None:
        try:
            await asyncio.wait_for(test, seconds_max)
        finally:
            contexts, self._contexts = self._contexts, []
            self._scriptless.clear()
            for context in contexts:
                await context.close()

    async def person(self, device: dict[str, Any] = DESKTOP, **options: Any) -> BrowserContext:
        """Somebody with a browser of their own, on a desktop or a phone."""
        context = await self._browser.new_context(**{**device, "locale": "en-GB", **options})
        context.set_default_timeout(ACTION_MILLISECONDS_MAX)
        self._contexts.append(context)
        if options.get("java_script_enabled") is False:
            self._scriptless.add(context)
        return context

    async def tab(self, device: dict[str, Any] = DESKTOP, **options: Any) -> Page:
        """A new person's first tab."""
        return await (await self.person(device, **options)).new_page()

    async def violations(self, page: Page) -> list[Violation]:
        """What axe has to say about the page as it is now, WCAG 2.2 AA and best practice."""
        if page.context in self._scriptless:
            page = await self._with_scripts(page)
        await page.evaluate(self._axe)
        check = page.evaluate("async () => (await axe.run(document)).violations")
        found = await asyncio.wait_for(check, CHECK_SECONDS_MAX)
        return [
            Violation(v["id"], v["impact"], [" ".join(map(str, n["target"])) for n in v["nodes"]], v["help"])
            for v in found
        ]

    async def _with_scripts(self, page: Page) -> Page:
        """The page as it is, in a tab that could run scripts but gets no other than the checker."""
        html = (await page.content()).replace("<noscript>", "<div>").replace("</noscript>", "</div>")
        size = page.viewport_size
        copy = await self.tab({"viewport": size}, color_scheme=await page.evaluate(COLOR_SCHEME))
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "script-src 'none'"}
        url = page.url.partition("#")[0]
        await copy.route(lambda each: each == url, lambda route: route.fulfill(body=html, headers=headers))
        await copy.goto(url)
        return copy

    def close(self) -> None:
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _stop(self) -> None:
        await self._browser.close()
        await self._playwright.stop()


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Somebody's app</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="/alter-connect.umd.js"></script></head>
<body><main><h1>Somebody's app</h1><button id="connect">Connect an account</button></main>
<script>
// What was called back is kept across navigations: on a phone the page goes away and comes back.
const told = (name, value) => {
  const log = JSON.parse(localStorage.getItem('told') ?? '[]');
  localStorage.setItem('told', JSON.stringify([...log, { name, value: value ?? null }]));
};
const connect = AlterConnect.create();
document.getElementById('connect').addEventListener('click', async () => {
  const { token, base } = await (await fetch('/session')).json();
  await connect.open({
    token,
    baseURL: base,
    onSuccess: (grants) => told('success', grants),
    onExit: () => told('exit'),
    onError: (error) => told('error', error),
    onEvent: (name) => told('event', name),
  });
});
</script></body></html>"""


@dataclass
class HostPage:
    """Somebody's own site, on an origin of its own, with the unmodified `@alter-ai/connect`.

    Its button opens Connect for `token` at `base`; what the client calls back is in `told`.
    """

    token: str = ""
    base: str = ""
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        host = self
        library = (node.modules() / "@alter-ai" / "connect" / "dist" / "alter-connect.umd.js").read_bytes()

        class Handler(_Handler):
            files = {"/alter-connect.umd.js": ("text/javascript", lambda: library)}
            owner = host

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        # Another name than the server's: for a browser another site, whose pages share no cookies.
        self.url = f"http://localhost:{self._server.server_address[1]}"

    async def told(self, page: Page, name: str) -> Any:
        """The value of the first such callback, waited for."""
        found = "name => JSON.parse(localStorage.getItem('told') ?? '[]').find(each => each.name === name)"
        handle = await page.wait_for_function(found, arg=name, timeout=ACTION_MILLISECONDS_MAX)
        return (await handle.json_value())["value"]

    async def all_told(self, page: Page) -> list[str]:
        """The names of all callbacks so far, in order."""
        return await page.evaluate("JSON.parse(localStorage.getItem('told') ?? '[]').map(each => each.name)")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: HostPage
    files: dict[str, Any]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.owner.requests.append(self.path)
        path = self.path.partition("?")[0]
        if path in self.files:
            kind, read = self.files[path]
            self._reply(kind, read())
        elif path == "/session":
            self._reply("application/json", json.dumps({"token": self.owner.token, "base": self.owner.base}).encode())
        else:
            self._reply("text/html; charset=utf-8", PAGE.encode())

    def _reply(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


async def screenshot(page: Page, name: str) -> Path:
    """A picture of the page, into `GRANTD_TEST_SCREENSHOTS`, or else `target/screenshots`."""
    default = Path(__file__).parent.parent.parent / "target" / "screenshots"
    directory = Path(os.environ.get("GRANTD_TEST_SCREENSHOTS", default))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.png"
    await page.screenshot(path=path, full_page=True)
    return path
