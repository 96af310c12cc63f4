"""The third-party API of the tests: it records every request and behaves as the path asks.

`/<test token>/<behaviour>/<anything>`; the token keeps the records of one test apart from those of another.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from harness.tls import Certificate

CHALLENGE = 'Bearer realm="api", error="insufficient_scope", scope="mail.read mail.send"'


@dataclass
class Seen:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def header_names(self) -> set[str]:
        return {n.lower() for n, _ in self.headers}

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)


@dataclass
class Corner:
    """One test's part of the provider."""

    provider: Provider
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def url(self, behaviour: str = "echo", rest: str = "") -> str:
        return f"{self.provider.url}/{self.token}/{behaviour}{rest}"

    @property
    def seen(self) -> list[Seen]:
        return self.provider.seen(self.token)

    def publish(self, value: object) -> str:
        """A document for everybody, such as a set of public keys; its address."""
        self.provider.published[self.token] = value
        return self.url("published")


class Provider:
    def __init__(self, certificate: Certificate | None = None) -> None:
        self._seen: dict[str, list[Seen]] = {}
        self._lock = threading.Lock()
        self.published: dict[str, object] = {}
        self._refused: set[str] = set()
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = _Server(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificate else 'http'}://{self.authority}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def corner(self) -> Corner:
        return Corner(self)

    def seen(self, token: str) -> list[Seen]:
        with self._lock:
            return list(self._seen.get(token, []))

    def record(self, token: str, seen: Seen) -> None:
        with self._lock:
            self._seen.setdefault(token, []).append(seen)

    def refuses(self, credential: str) -> None:
        """From now on whoever shows this is nobody, on every path."""
        with self._lock:
            self._refused.add(credential)

    def is_refused(self, headers: list[tuple[str, str]]) -> bool:
        with self._lock:
            return any(credential in value for credential in self._refused for _, value in headers)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses our certificate or hangs up is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Provider

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        seen = Seen(self.command, self.path, list(self.headers.items()), self.rfile.read(length))
        token, _, rest = urlsplit(self.path).path.lstrip("/").partition("/")
        behaviour, _, rest = rest.partition("/")
        self.owner.record(token, seen)
        if self.owner.is_refused(seen.headers):
            self._reply(401, {"error": "invalid_api_key"})
        elif behaviour == "published":
            self._reply(200, self.owner.published[token])
        elif behaviour == "status":
            self._reply(int(rest.split("/")[0]), {"status": rest})
        elif behaviour == "challenge":
            self._reply(int(rest.split("/")[0]), {"error": "insufficient_scope"}, {"WWW-Authenticate": CHALLENGE})
        elif behaviour == "redirect":
            self._reply(302, {}, {"Location": f"{self.owner.url}/{token}/echo/followed"})
        elif behaviour == "text":
            self._reply(200, b"plain text", {"Content-Type": "text/plain"})
        else:
            self._reply(
                200,
                {
                    "method": seen.method,
                    "target": seen.target,
                    "headers": {name.lower(): value for name, value in seen.headers},
                    "body": seen.body.decode("utf-8", "replace"),
                },
            )

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _answer

    def _reply(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def closed_port() -> tuple[socket.socket, int]:
    """A port that refuses connections: bound, never listening. It is ours for as long as the socket lives."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]
