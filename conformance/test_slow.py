"""Bodies and heads that trickle in: each costs the server a bounded time, whatever the client does."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from dataclasses import dataclass

import pytest

from harness.http import Answer, connect, read_answer
from harness.server import Grantd
from harness.world import World
from signing import Request


@dataclass
class Slow:
    """One connection that never finishes its request, and what became of it."""

    server: Grantd
    data: bytes
    trickle: bytes = b""
    answer: Answer | None = None
    seconds: float = 0

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        began = time.monotonic()
        sock = connect(self.server.url, timeout=60)
        try:
            sock.sendall(self.data)
            self._trickle(sock, began)
            self.answer = read_answer(sock, "POST")
        except (OSError, ValueError, http.client.HTTPException):
            self.answer = None
        finally:
            self.seconds = time.monotonic() - began
            sock.close()

    def _trickle(self, sock: socket.socket, began: float) -> None:
        """A byte now and then, until the server has had enough of it."""
        sock.settimeout(0.5)
        for byte in self.trickle:
            if time.monotonic() - began > 40:
                break
            try:
                sock.sendall(bytes([byte]))
                sock.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                continue
        sock.settimeout(60)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_slow_bodies_and_heads_end_in_time(world: World):
    """On one engine: it takes twenty seconds, and nothing of it reaches the store."""
    key, grant = world.key.api_key, world.secret().grant_id
    whole = world.token_request(grant).wire()
    unknown_size = Request("POST", "/sdk/token", key, b"").sign().wire(content_length=1000)
    cases = {
        "no body": Slow(world.server, unknown_size),
        "body stops": Slow(world.server, whole[:-10]),
        "body trickles": Slow(world.server, unknown_size, b" " * 999),
        "no head": Slow(world.server, b""),
        "head stops": Slow(world.server, whole[:60]),
        "head trickles": Slow(world.server, b"GET /sdk/scopes HTTP/1.1\r\nX-A: ", b"a" * 999),
    }
    threads = [case.start() for case in cases.values()]
    # Meanwhile others are served.
    assert world.send(world.token_request(grant)).status == 200
    for thread in threads:
        thread.join(70)
    for name in ("no body", "body stops", "body trickles"):
        case = cases[name]
        assert case.answer is not None, name
        assert (case.answer.status, case.answer.error) == (408, "request_timeout"), (name, case.answer)
        assert 18 <= case.seconds <= 25, (name, case.seconds)
    for name in ("no head", "head stops", "head trickles"):
        case = cases[name]
        assert case.answer is None or case.answer.status == 408, (name, case.answer)
        assert case.seconds <= 15, (name, case.seconds)
    assert [e["kind"] for e in world.events() if e["kind"].startswith("token.")] == ["token.released"]
