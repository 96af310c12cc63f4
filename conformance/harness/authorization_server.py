"""A real authorization server, `oidc-provider` from npm, in a process of its own.

It knows PKCE, refresh tokens that rotate and whose second use ends the whole grant, revocation and introspection.
Every test registers a client of its own, so that nothing is shared. A user's browser is either a real one, which
gets pages to sign in and to consent, or `consent`, which follows redirects as somebody who always agrees.
"""

from __future__ import annotations

import base64
import hashlib
import http.cookiejar
import json
import subprocess
import threading
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from harness import http as plain
from harness.node import NODE, environment

READY_SECONDS = 60
PROGRAM = Path(__file__).parent.parent / "browser" / "authorization-server.mjs"


@dataclass
class Client:
    """A client of the authorization server, and what the server saw of it."""

    server: AuthorizationServer
    redirect_uri: str
    auth: str = "client_secret_basic"
    # With characters that HTTP Basic must encode (RFC 6749 section 2.3.1).
    id: str = field(default_factory=lambda: f"client:{uuid.uuid4().hex}")
    secret: str = field(default_factory=lambda: f"s3cr+t/%{uuid.uuid4().hex}")

    @property
    def _control(self) -> str:
        return f"/control/clients/{quote(self.id, safe='')}"

    def configure(self, **settings: object) -> None:
        """Settings: `access_token_seconds`, `account`, `groups`, `offline_scope`, `pkce_required`, `rotates`."""
        self.server.control("PUT", self._control, settings)

    def fail(self, *faults: dict) -> None:
        """What happens to the next calls of the token endpoint, one each; with `always` to all, until something else is
        said, as by `fail()`."""
        self.server.control("POST", f"{self._control}/faults", list(faults))

    def calls(self, endpoint: str = "token", grant_type: str | None = None) -> list[dict]:
        made = self.server.control("GET", f"{self._control}/calls")
        return [c for c in made if c["endpoint"] == endpoint and grant_type in (None, c["grant_type"])]

    def refreshes(self) -> list[dict]:
        return self.calls(grant_type="refresh_token")

    def grants(self) -> list[dict]:
        """Who granted what, and has not ended it."""
        return self.server.control("GET", f"{self._control}/grants")

    def revoke(self, account: str) -> list[dict]:
        """The account's owner ends what they granted, at the provider."""
        return self.server.control("POST", f"{self._control}/revoke", {"account": account})

    def authorize_url(self, scope: str = "openid", **more: str) -> str:
        query = {"response_type": "code", "client_id": self.id, "redirect_uri": self.redirect_uri, "scope": scope}
        return f"{self.server.url}/auth?{urlencode({**query, **more})}"

    def id_token(self, account: str, scope: str = "openid email profile") -> str:
        """What this client gets of a user who signs in with it, when it runs the flow itself."""
        verifier = uuid.uuid4().hex * 2
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        url = self.authorize_url(scope, code_challenge=digest, code_challenge_method="S256")
        code = query_of(self.server.consent(url, account))["code"]
        more = {"code": code, "redirect_uri": self.redirect_uri, "code_verifier": verifier}
        answer = self.post("/token", grant_type="authorization_code", **more)
        assert answer.status == 200, answer
        return answer.json()["id_token"]

    def post(self, path: str, **fields: str) -> plain.Answer:
        """A call as this client, as the tests of the server itself make."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.auth == "client_secret_basic":
            pair = f"{quote(self.id, safe='')}:{quote(self.secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            fields = {**fields, "client_id": self.id, "client_secret": self.secret}
        return plain.call("POST", self.server.url + path, headers=headers, body=urlencode(fields).encode())


class AuthorizationServer:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [NODE, str(PROGRAM)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        ready = threading.Event()
        threading.Thread(target=self._drain, args=(ready,), daemon=True).start()
        self.port = 0
        if not ready.wait(READY_SECONDS) or not self._listens():
            self.close()
            raise AssertionError("the authorization server did not get ready:\n" + "".join(self._said))
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"

    def _drain(self, ready: threading.Event) -> None:
        for line in self._process.stdout:
            self._said.append(line)
            if line.startswith("listening on "):
                ready.set()
        ready.set()

    def _listens(self) -> bool:
        line = next((line for line in self._said if line.startswith("listening on ")), None)
        self.port = int(line.split()[-1]) if line else 0
        return line is not None

    def log_text(self) -> str:
        return "".join(self._said)

    def client(self, redirect_uri: str, auth: str = "client_secret_basic", **settings: object) -> Client:
        client = Client(self, redirect_uri, auth)
        client.configure(secret=client.secret, redirect_uris=[redirect_uri], auth=auth, **settings)
        return client

    def keys(self, act: str | None = None) -> dict:
        """The keys that sign ID tokens; `act`: `publish`, `sign`, `replace` or `retire`, as `keys.mjs` says."""
        return self.control("POST", "/control/keys", {"act": act}) if act else self.control("GET", "/control/keys")

    def control(self, method: str, path: str, value: object = None) -> object:
        body = None if value is None else json.dumps(value).encode()
        answer = plain.call(method, self.url + path, headers={"Content-Type": "application/json"}, body=body)
        assert answer.status == 200, f"{method} {path}: {answer}\n{self.log_text()[-2000:]}"
        return answer.json()

    def consent(self, url: str, account: str) -> str:
        """Follows the link as a browser whose user is `account` and agrees; where that leads to, not yet visited."""
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar), _NoRedirects())
        separator = "&" if "?" in url else "?"
        url += f"{separator}{urlencode({'login_hint': f'auto:{account}'})}"
        for _ in range(20):
            try:
                with opener.open(url, timeout=30) as answer:
                    raise AssertionError(f"{url} shows a page: {answer.read()[:2000]!r}")
            except urllib.error.HTTPError as answer:
                location = answer.headers.get("Location")
                assert answer.code in (302, 303) and location, f"{url}: {answer.code} {answer.read()[:2000]!r}"
            if not location.startswith(("/", self.url)):
                return location
            url = location if location.startswith(self.url) else self.url + location
        raise AssertionError(f"redirects without end at {url}")

    def close(self) -> None:
        """Its input ends, and so does it."""
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def query_of(url: str) -> dict[str, str]:
    """The parameters of a redirect."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
