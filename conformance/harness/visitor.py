"""Somebody at a browser that runs no scripts: cookies, links, forms, and the provider's consent.

It is strict where browsers are: a cookie goes only where its path and flags let it, and a form is sent only to where
`form-action` lets it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from harness import http
from harness.http import Answer

REDIRECTS_MAX = 10


@dataclass
class Form:
    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[str] = field(default_factory=list)


@dataclass
class Shown:
    """A page as its reader has it."""

    url: str
    answer: Answer
    title: str = ""
    heading: str = ""
    text: str = ""
    forms: list[Form] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    refresh: str | None = None

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def policy(self) -> dict[str, list[str]]:
        """Its content security policy, by directive."""
        parts = (part.split() for part in self.answer.header("Content-Security-Policy").split(";"))
        return {words[0]: words[1:] for words in parts if words}

    def form(self, action: str) -> Form:
        found = [form for form in self.forms if urlsplit(form.action).path.endswith(f"/{action}")]
        assert found, f"no form for {action} on {self.title!r}: {[form.action for form in self.forms]}"
        return found[0]

    def link(self, text: str) -> str:
        found = [href for href, shown in self.links if text in shown]
        assert found, f"no link {text!r} on {self.title!r}: {self.links}"
        return found[0]


class _Reader(HTMLParser):
    def __init__(self, page: Shown) -> None:
        super().__init__()
        self.page, self._form, self._link, self._within = page, None, None, []
        self._texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attributes}
        self.page.data |= {name.removeprefix("data-"): value for name, value in of.items() if name.startswith("data-")}
        if tag == "form":
            self._form = Form(urljoin(self.page.url, of.get("action", "")), of.get("method", "get").upper())
            self.page.forms.append(self._form)
        elif tag == "input" and self._form is not None and of.get("name"):
            self._form.fields.append((of["name"], of.get("value", "")))
        elif tag == "a":
            self._link = (urljoin(self.page.url, of.get("href", "")), [])
        elif tag == "meta" and of.get("http-equiv", "").lower() == "refresh":
            self.page.refresh = of["content"].partition("url=")[2]
        if tag not in ("input", "meta", "link", "br", "img"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "a" and self._link:
            self.page.links.append((self._link[0], " ".join("".join(self._link[1]).split())))
            self._link = None
        if tag in self._within:
            while self._within.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self._within):
            return
        if "title" in self._within and "svg" not in self._within:
            self.page.title += data
            return
        if "h1" in self._within:
            self.page.heading += data
        if "button" in self._within and self._form is not None:
            self._form.buttons.append(data.strip())
        if self._link:
            self._link[1].append(data)
        self._texts.append(data)

    def close(self) -> None:
        super().close()
        self.page.text = " ".join("".join(self._texts).split())
        self.page.title, self.page.heading = (" ".join(t.split()) for t in (self.page.title, self.page.heading))


class Visitor:
    """One browser. `consents` is how its user answers at the provider: the link there, to the link back."""

    def __init__(self, consents: Callable[[str], str] | None = None) -> None:
        self.consents = consents
        self.cookies: dict[str, dict[str, str]] = {}
        self.visited: list[str] = []

    def get(self, url: str) -> Shown:
        return self._go("GET", url, None)

    def post(self, url: str, fields: list[tuple[str, str]] | dict[str, str], **headers: str) -> Shown:
        return self._go("POST", url, urlencode(fields).encode(), **headers)

    def submit(self, page: Shown, action: str, **changed: str) -> Shown:
        """Sends a form of the page, as it is or with some fields changed."""
        form = page.form(action)
        assert form.method == "POST"
        allowed = page.policy["form-action"]
        assert "'self'" in allowed, f"its policy keeps the form from being sent: {allowed}"
        fields = [(name, changed.get(name, value)) for name, value in form.fields]
        return self.post(form.action, fields)

    # Connect

    def open(self, connect_url: str) -> Shown:
        """Follows a link to Connect. Its first page cannot read the fragment without script: the link is pasted."""
        return self.submit(self.get(connect_url), "open", session=connect_url)

    def to_provider(self, page: Shown) -> str:
        """Agrees on the consent page; where that leads to."""
        leaving = self.submit(page, "start")
        assert leaving.refresh, f"nothing leads to the provider: {leaving.text}"
        return leaving.refresh

    def connect(self, page: Shown) -> Shown:
        """From the consent page to the provider, consents there, and comes back; the page that says what came of it."""
        return self.get(self.consents(self.to_provider(page)))

    # Below

    def _go(self, method: str, url: str, body: bytes | None, **headers: str) -> Shown:
        for _ in range(REDIRECTS_MAX):
            url = url.partition("#")[0]
            self.visited.append(url)
            answer = self._send(method, url, body, headers)
            location = answer.header("Location")
            if answer.status not in (302, 303) or location is None:
                return self._read(url, answer)
            method, url, body = "GET", urljoin(url, location), None
        raise AssertionError(f"redirects without end at {url}")

    def _send(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        held = self.cookies.setdefault(origin, {})
        sent = {"Accept": "text/html", "User-Agent": "visitor", **headers}
        if held:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in held.items())
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            sent.setdefault("Origin", origin)
        answer = http.call(method, url, headers=sent, body=body)
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                pair, *attributes = [part.strip() for part in value.split(";")]
                flags = {each.partition("=")[0].lower() for each in attributes}
                assert "httponly" in flags and "SameSite=Lax" in attributes, value
                key, _, content = pair.partition("=")
                held[key] = content
        return answer

    def _read(self, url: str, answer: Answer) -> Shown:
        page = Shown(url, answer)
        if "html" in (answer.header("Content-Type") or ""):
            reader = _Reader(page)
            reader.feed(answer.body.decode())
            reader.close()
        return page


def id_in(url: str) -> str | None:
    """The id of the session in the address of one of its pages."""
    found = re.search(r"/connect/([0-9a-f-]{36})", url)
    return found and found[1]
