"""Plain sockets: send these bytes, read one answer. No HTTP client stands between a raw test and the server."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def json(self) -> object:
        return json.loads(self.body)

    @property
    def error(self) -> str | None:
        try:
            value = json.loads(self.body)
        except ValueError:
            return None
        return value.get("error") if isinstance(value, dict) else None

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.body[:300]!r})"


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def connect(url: str, timeout: float = 30, source: str | None = None) -> socket.socket:
    sock = socket.create_connection(address(url), timeout, (source, 0) if source else None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock: socket.socket, method: str = "GET") -> Answer:
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return Answer(response.status, response.getheaders(), response.read())


def send(url: str, data: bytes, timeout: float = 30, source: str | None = None) -> Answer:
    """Sends the bytes on a connection of their own and reads the answer, even if the server stopped reading early."""
    method = data.split(b" ", 1)[0].decode("latin-1")
    with connect(url, timeout, source) as sock:
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_answer(sock, method)


class _Stream:
    """Lets `http.client` read answers one after another from recorded bytes."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def makefile(self, *_: object) -> io.BytesIO:
        self.file.close = lambda: None
        return self.file


def parse_answers(data: bytes, methods: list[str]) -> list[Answer]:
    stream, answers = _Stream(data), []
    for method in methods:
        if stream.file.tell() >= len(data):
            break
        response = http.client.HTTPResponse(stream, method=method)
        try:
            response.begin()
            answers.append(Answer(response.status, response.getheaders(), response.read()))
        except (http.client.HTTPException, ValueError):
            break  # the rest of it is still on its way
    return answers


def call(
    method: str,
    url: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    authority: Path | None = None,
) -> Answer:
    """An ordinary request for health checks and the management API; `authority` is whom to trust on https."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=str(authority))
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()
