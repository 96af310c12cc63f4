"""The quirks lab: an OAuth provider that plays, by script, what real ones do.

`Quirky.provider(quirks)` is one test's own provider, at paths of its own, with `acts` for its next calls. It keeps
what it issued, so that it can say which token is alive, was spent, or was presented twice. Time is moved by
`forward`; nothing here waits for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from harness import canary
from harness.quirks import GARBAGE, HTML, TOO_LARGE_BYTES, Act, Quirks

HANG_SECONDS_MAX = 120
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Family:
    """One consent, and every token that came of it."""

    account: str
    scopes: list[str]
    refresh: str | None = None
    spent: dict[str, float] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)
    is_over: bool = False


@dataclass
class Call:
    """One call of a token, revocation or userinfo endpoint, as it arrived."""

    endpoint: str
    method: str
    params: dict[str, str]
    headers: dict[str, str]
    status: int | None = None
    error: str | None = None

    @property
    def grant_type(self) -> str | None:
        return self.params.get("grant_type")


class Failed(Exception):
    """An error of RFC 6749 section 5.2."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]


@dataclass
class Provider:
    """One test's own provider."""

    lab: Quirky
    quirks: Quirks
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    client_id: str = field(default_factory=lambda: f"id-{uuid.uuid4().hex[:12]}")
    client_secret: str = field(default_factory=canary.token)
    account: str = "alice"  # Whoever sits at the browser.
    denies: str | None = None  # The error that the authorize endpoint answers with.
    acts: list[Act] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    families: list[Family] = field(default_factory=list)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def url(self, endpoint: str) -> str:
        """Of `authorize`, `token`, `refresh`, `exchange`, `revoke`, `userinfo`, or `api/..`."""
        return f"{self.lab.url}/{self.name}/{endpoint}"

    @property
    def refresh_url(self) -> str:
        apart = {"exchange": "exchange"}.get(self.quirks.refresh, "refresh" if self.quirks.refresh_apart else "token")
        return self.url(apart)

    def play(self, *acts: Act) -> None:
        """What happens to the next calls of the token endpoints, one each; with `always` to all."""
        with self.lock:
            self.acts[:] = acts

    def made(self, endpoint: str) -> list[Call]:
        with self.lock:
            return [call for call in self.calls if call.endpoint == endpoint]

    @property
    def refreshes(self) -> list[Call]:
        with self.lock:
            return [c for c in self.calls if c.endpoint in ("refresh", "exchange") or c.grant_type == "refresh_token"]

    @property
    def is_alive(self) -> bool:
        """Whether what the last consent gave can still be used."""
        with self.lock:
            return bool(self.families) and not self.families[-1].is_over

    def end(self) -> None:
        """Its users end every consent, at the provider."""
        with self.lock:
            for family in self.families:
                family.is_over = True

    # The authorize endpoint

    def authorize(self, query: dict[str, str]) -> str:
        """Where the user's browser goes next: back, at once, as somebody who agrees, or does not."""
        if query.get(self.quirks.client_id) != self.client_id or query.get("response_type") != "code":
            raise Failed("unauthorized_client")
        back: dict[str, str] = {"state": query["state"]} if "state" in query else {}
        if self.quirks.sends_iss:
            back["iss"] = f"{self.lab.url}/{self.name}"
        error = self.denies or self._link_error(query)
        if error:
            return _with(query["redirect_uri"], {"error": error, **back})
        code = canary.token()
        asked = [scope for part in query.get("scope", "").split() for scope in part.split(",") if scope]
        given = [scope for scope in asked if scope not in self.quirks.refused_scopes]
        with self.lock:
            self.codes[code] = {"query": query, "family": Family(self.account, given)}
        return _with(query["redirect_uri"], {"code": code, **back, **self.quirks.callback}) + self.quirks.code_suffix

    def _link_error(self, query: dict[str, str]) -> str | None:
        challenge = query.get("code_challenge")
        if self.quirks.pkce == "refused" and challenge:
            return "invalid_request"
        if self.quirks.pkce == "required" and (not challenge or query.get("code_challenge_method") != "S256"):
            return "invalid_request"
        return None

    # The token endpoints

    def grant(self, endpoint: str, params: dict[str, str], headers: dict[str, str]) -> dict[str, Any]:
        if self.quirks.user_agent and not headers.get("user-agent"):
            raise Failed("too_many_requests", 429)
        if endpoint == "exchange":
            return self._exchange(params)
        self._authenticate(params, headers)
        grant_type = params.get("grant_type")
        if grant_type == "authorization_code" and endpoint == "token":
            return self._redeem(params)
        if grant_type == "refresh_token" and (endpoint == "refresh") == self.quirks.refresh_apart:
            return self._refresh(params)
        raise Failed("unsupported_grant_type")

    def _authenticate(self, params: dict[str, str], headers: dict[str, str]) -> None:
        given = (params.get(self.quirks.client_id), params.get("client_secret"))
        if self.quirks.auth == "basic":
            scheme, _, value = headers.get("authorization", "").partition(" ")
            pair = base64.b64decode(value).decode() if scheme.lower() == "basic" else ":"
            given = tuple(map(unquote_plus, pair.split(":", 1)))
        if given != (self.client_id, self.client_secret):
            raise Failed("invalid_client", 401)

    def _redeem(self, params: dict[str, str]) -> dict[str, Any]:
        with self.lock:
            code = self.codes.pop(params.get("code", ""), None)
            if code is None or params.get("redirect_uri") != code["query"]["redirect_uri"]:
                raise Failed("invalid_grant")
            if self.quirks.pkce == "required":
                digest = hashlib.sha256(params.get("code_verifier", "").encode()).digest()
                if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != code["query"]["code_challenge"]:
                    raise Failed("invalid_grant")
            family: Family = code["family"]
            self.families.append(family)
            offline = self.quirks.offline
            has_refresh = self.quirks.refresh not in ("none", "exchange")
            if has_refresh and (offline is None or code["query"].get(offline[0]) == offline[1]):
                family.refresh = canary.token()
            return self._issue(family, family.refresh)

    def _refresh(self, params: dict[str, str]) -> dict[str, Any]:
        presented = params.get("refresh_token", "")
        with self.lock:
            found = (f for f in self.families if presented == f.refresh or presented in f.spent)
            family = next(found, None)
            if family is None or family.is_over:
                raise Failed("invalid_grant")
            if presented in family.spent and not self._is_in_grace(family.spent[presented]):
                family.is_over = family.is_over or self.quirks.reuse_ends_family
                raise Failed("invalid_grant")
            match self.quirks.refresh:
                case "single_use":
                    if presented == family.refresh:
                        family.spent[presented] = self.lab.now()
                        family.refresh = canary.token()
                    return self._issue(family, family.refresh)
                case "omitted":
                    return self._issue(family, None)
                case _:
                    return self._issue(family, family.refresh)

    def _is_in_grace(self, spent_at: float) -> bool:
        return self.lab.now() - spent_at < self.quirks.grace_seconds

    def _exchange(self, params: dict[str, str]) -> dict[str, Any]:
        with self.lock:
            family = self._holder(params.get("access_token", ""))
            if family is None:
                raise Failed("invalid_grant")
            return self._issue(family, None)

    def _issue(self, family: Family, refresh: str | None) -> dict[str, Any]:
        quirks, access = self.quirks, canary.token()
        if quirks.new_access_ends_old:
            family.access.clear()
        lives = float("inf") if quirks.expires_in == "zero" else quirks.access_seconds
        family.access[access] = self.lab.now() + lives
        answer: dict[str, Any] = {"access_token": access, "token_type": "Bearer"}
        expires = {"number": quirks.access_seconds, "text": str(quirks.access_seconds), "zero": 0, "null": None}
        if quirks.expires_in in expires:
            answer["expires_in"] = expires[quirks.expires_in]
        if refresh is not None:
            answer["refresh_token"] = refresh
        scopes = family.scopes
        shapes = {"as_granted": " ".join(scopes), "comma": ",".join(scopes), "list": scopes}
        if quirks.scope in shapes:
            answer["scope"] = shapes[quirks.scope]
        inner = {quirks.nested: answer} if quirks.nested else answer
        return {**quirks.more, **inner}

    def _holder(self, access: str) -> Family | None:
        now = self.lab.now()
        living = (f for f in self.families if not f.is_over and f.access.get(access, 0) > now)
        return next(living, None)

    # The others

    def revoke(self, params: dict[str, str]) -> None:
        token = params.get("token", "")
        with self.lock:
            for family in self.families:
                if token and (token == family.refresh or token in family.spent or token in family.access):
                    family.is_over = True

    def owner(self, headers: dict[str, str]) -> str:
        """The account of the access token, if it is alive."""
        scheme, _, access = headers.get("authorization", "").partition(" ")
        with self.lock:
            family = self._holder(access) if scheme.lower() == "bearer" else None
        if family is None:
            raise Failed("invalid_token", 401)
        return family.account

    def answer_of(self, value: dict[str, Any]) -> Answer:
        if self.quirks.format.startswith("form"):
            flat = {name: "" if each is None else each for name, each in value.items() if not isinstance(each, dict)}
            kind = JSON if self.quirks.format == "form_called_json" else FORM
            return Answer(200, urlencode(flat).encode(), {"Content-Type": kind})
        kind = "text/html" if self.quirks.format == "json_called_html" else JSON
        return Answer(200, json.dumps(value).encode(), {"Content-Type": kind})

    def failure_of(self, failed: Failed) -> Answer:
        body: dict[str, Any] = {"error": failed.code, "error_description": "the lab said no"}
        if self.quirks.failure == "status":
            return Answer(failed.status, json.dumps(body).encode(), {"Content-Type": JSON})
        if self.quirks.failure == "ok_false":
            body = {"ok": False, "error": failed.code}
        return self.answer_of(body)


class Quirky:
    """The server behind all of them."""

    def __init__(self) -> None:
        lab = self
        self.providers: dict[str, Provider] = {}
        self._forward = 0.0
        self.closing = threading.Event()

        class Handler(_Handler):
            owner = lab

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def provider(self, quirks: Quirks | None = None, **options: Any) -> Provider:
        provider = Provider(self, quirks or Quirks(), **options)
        self.providers[provider.name] = provider
        return provider

    def now(self) -> float:
        return time.monotonic() + self._forward

    def forward(self, seconds: float) -> None:
        """Later, for every token of every provider here."""
        self._forward += seconds

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Quirky

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        name, _, endpoint = parts.path.lstrip("/").partition("/")
        provider = self.owner.providers.get(name)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {key.lower(): value for key, value in self.headers.items()}
        if provider is None:
            self._send(Answer(404, b"no such provider", {}))
        elif endpoint == "authorize":
            self._authorize(provider, query)
        elif endpoint in ("token", "refresh", "exchange"):
            params = _params(provider, endpoint, query, body)
            self._token(provider, Call(endpoint, self.command, params, headers))
        else:
            params = {**query, **_decoded(headers.get("content-type", ""), body)}
            self._other(provider, Call(endpoint.partition("/")[0], self.command, params, headers))

    do_GET = do_POST = do_DELETE = _serve

    def _authorize(self, provider: Provider, query: dict[str, str]) -> None:
        try:
            self._send(Answer(302, b"", {"Location": provider.authorize(query)}))
        except Failed as failed:
            self._send(Answer(failed.status, f"<h1>{failed.code}</h1>".encode(), {"Content-Type": "text/html"}))

    def _token(self, provider: Provider, call: Call) -> None:
        with provider.lock:
            provider.calls.append(call)
            act = provider.acts[0] if provider.acts else None
            if act is not None and not act.always:
                provider.acts.pop(0)
        if act is not None and not act.after and act.kind != "slow":
            self._perform(provider, call, act)
            return
        if act is not None and act.kind == "slow":
            self.owner.closing.wait(act.seconds)
        try:
            answer = provider.answer_of(provider.grant(call.endpoint, call.params, call.headers))
        except Failed as failed:
            call.error = failed.code
            answer = provider.failure_of(failed)
        call.status = answer.status
        if act is None or act.kind == "slow":
            self._send(answer)
        else:
            self._perform(provider, call, act, answer)

    def _perform(self, provider: Provider, call: Call, act: Act, made: Answer | None = None) -> None:
        """The act in place of an answer; `made` is the one that is spoilt by it."""
        whole = made.body if made else json.dumps({"access_token": canary.token(), "expires_in": 3600}).encode()
        spoilt: dict[str, Callable[[], Answer]] = {
            "status": lambda: Answer(act.status, b'{"error":"temporarily_unavailable"}', {"Content-Type": JSON}),
            "html": lambda: Answer(act.status, HTML, {"Content-Type": "text/html"}),
            "garbage": lambda: Answer(act.status, GARBAGE, {"Content-Type": JSON}),
            "empty": lambda: Answer(act.status, b"", {"Content-Type": JSON}),
            "too_large": lambda: Answer(act.status, b" " * TOO_LARGE_BYTES + whole, {"Content-Type": JSON}),
            "error": lambda: provider.failure_of(Failed(act.code, 400 if act.status == 200 else act.status)),
            "no_token": lambda: Answer(200, b'{"token_type":"Bearer"}', {"Content-Type": JSON}),
        }
        if act.kind == "hang":
            self.owner.closing.wait(HANG_SECONDS_MAX)
        if act.kind in ("hang", "close"):
            self.close_connection = True
            return
        if act.kind == "cut_off":
            self._send(Answer(200, whole, {"Content-Type": JSON}), length=len(whole) // 2)
            return
        answer = spoilt[act.kind]()
        if act.retry_after is not None:
            answer.headers["Retry-After"] = act.retry_after
        call.status = answer.status
        self._send(answer)

    def _other(self, provider: Provider, call: Call) -> None:
        with provider.lock:
            provider.calls.append(call)
        try:
            if call.endpoint == "revoke":
                provider.revoke(call.params)
                answer = Answer(200, b"{}", {"Content-Type": JSON})
            else:
                account = provider.owner(call.headers)
                value = {"id": f"id-{account}", "sub": f"id-{account}", "email": f"{account}@example.test"}
                answer = Answer(200, json.dumps(value).encode(), {"Content-Type": JSON})
        except Failed as failed:
            call.error = failed.code
            challenge = {"WWW-Authenticate": f'Bearer error="{failed.code}"'}
            answer = Answer(failed.status, json.dumps({"error": failed.code}).encode(), challenge)
        call.status = answer.status
        self._send(answer)

    def _send(self, answer: Answer, length: int | None = None) -> None:
        """With `length`, the connection ends after so many bytes of the body that was promised."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:length])
        if length is not None:
            self.close_connection = True


def _params(provider: Provider, endpoint: str, query: dict[str, str], body: bytes) -> dict[str, str]:
    """The parameters of a token call, if they came in the way the provider wants them."""
    if endpoint == "exchange" or provider.quirks.body == "query":
        return query
    return _decoded(JSON if provider.quirks.body == "json" else FORM, body)


def _decoded(kind: str, body: bytes) -> dict[str, str]:
    if kind.startswith(JSON):
        try:
            value = json.loads(body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _with(url: str, query: dict[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
