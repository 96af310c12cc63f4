"""A recording forwarder between the client and the server: what went over the wire, byte for byte.

Exchanges are kept by API key, so that tests which run side by side see only their own. A test may edit requests in
flight (`tap.edit[api_key] = function from bytes to bytes`), and what the client gets for an answer
(`tap.edit_answers`, by the piece); what is kept is what the server answered.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from harness.http import Answer, address, parse_answers


@dataclass
class Exchange:
    request: bytes
    answer: Answer | None

    @property
    def method(self) -> str:
        return self.request.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.request.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        return _headers(self.request)

    @property
    def body(self) -> bytes:
        return self.request.partition(b"\r\n\r\n")[2]

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


def _headers(request: bytes) -> list[tuple[str, str]]:
    lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


class _Connection:
    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answered = bytearray()


class Tap:
    def __init__(self, server_url: str, rewrite: Callable[[bytes], bytes] | None = None) -> None:
        self.server_url = server_url
        self.rewrite = rewrite
        self.edit: dict[str, Callable[[bytes], bytes]] = {}
        self.edit_answers: dict[str, Callable[[bytes], bytes]] = {}
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def exchanges(self, api_key: str) -> list[Exchange]:
        with self._lock:
            connections = [(list(c.requests), bytes(c.answered)) for c in self._connections]
        found = []
        for requests, answered in connections:
            if not any(api_key.encode() in r for r in requests):
                continue
            answers = parse_answers(answered, [r.split(b" ", 1)[0].decode() for r in requests])
            for index, request in enumerate(requests):
                if dict((n.lower(), v) for n, v in _headers(request)).get("x-api-key") == api_key:
                    found.append(Exchange(request, answers[index] if index < len(answers) else None))
        return found

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            connection = _Connection()
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(client, connection), daemon=True).start()

    def _serve(self, client: socket.socket, connection: _Connection) -> None:
        try:
            server = socket.create_connection(address(self.server_url), 30)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._back, args=(server, client, connection), daemon=True).start()
        buffer = b""
        try:
            while True:
                request, buffer = _read_request(client, buffer)
                if request is None:
                    break
                with self._lock:
                    connection.requests.append(request)
                sent = self.rewrite(request) if self.rewrite else request
                key = dict((n.lower(), v) for n, v in _headers(request)).get("x-api-key", "")
                if key in self.edit:
                    sent = self.edit[key](sent)
                server.sendall(sent)
        except OSError:
            pass
        finally:
            _shut(server)

    def _back(self, server: socket.socket, client: socket.socket, connection: _Connection) -> None:
        try:
            while data := server.recv(65536):
                with self._lock:
                    connection.answered += data
                    asked = connection.requests[-1]
                edit = next((e for key, e in self.edit_answers.items() if key.encode() in asked), None)
                client.sendall(edit(data) if edit else data)
        except OSError:
            pass
        finally:
            _shut(client)
            client.close()
            server.close()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


def _read_request(sock: socket.socket, buffer: bytes) -> tuple[bytes | None, bytes]:
    while b"\r\n\r\n" not in buffer:
        data = sock.recv(65536)
        if not data:
            return None, b""
        buffer += data
    head, _, rest = buffer.partition(b"\r\n\r\n")
    length = int(found.group(1)) if (found := _LENGTH.search(head)) else 0
    while len(rest) < length:
        data = sock.recv(65536)
        if not data:
            return None, b""
        rest += data
    return head + b"\r\n\r\n" + rest[:length], rest[length:]
