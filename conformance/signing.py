"""An independent signer of the wire protocol, written from the protocol's description.

It shares nothing with the client under test or with the server, so that a mistake common to both would show here.
Invariant: nothing in this file knows an answer in advance; the known-answer vectors live in the tests.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import quote_plus, unquote, unquote_plus

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def key_checksum(key_type: str, random: str) -> str:
    """Six characters over CRC-32 of `type:random`, least significant five bits first; the top two bits are dropped."""
    crc = binascii.crc32(f"{key_type}:{random}".encode())
    return "".join(BASE32[(crc >> (5 * i)) & 31] for i in range(6))


def invent_key(key_type: str = "rk") -> str:
    """A well-formed key that no server has minted."""
    random = "".join(secrets.choice(BASE32) for _ in range(22))
    return f"alter_{key_type}_{random}_{key_checksum(key_type, random)}"


def signing_key(api_key: str) -> bytes:
    return hmac.new(api_key.encode(), b"alter-signing-v1", hashlib.sha256).digest()


def canonical_target(target: str) -> str:
    """The second line of the signed text for a raw request target without the base URL's path prefix."""
    path, _, query = target.partition("?")
    text = unquote(path, encoding="utf-8", errors="replace")
    pairs = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name, errors="replace"), unquote_plus(value, errors="replace")))
    if query:
        text += "?" + "&".join(f"{quote_plus(n, safe='')}={quote_plus(v, safe='')}" for n, v in sorted(pairs))
    return text


@dataclass
class Request:
    """One request as it goes over the wire. Change a field before `sign`, or a header after it to tamper."""

    method: str
    target: str
    api_key: str
    body: bytes = b""
    timestamp: int | None = None
    nonce: str | None = None
    constraints: str | None = None
    rule: str | None = None
    caller: str | None = None
    caller_type: str | None = None
    actor_id: str | None = None
    context: str | None = None
    signed_target: str | None = None
    user_agent: str = "alter-sdk-python/0.29.0"
    headers: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def json(cls, method: str, target: str, api_key: str, value: object, **extra: object) -> Request:
        return cls(method, target, api_key, compact(value), **extra)

    def text_to_sign(self) -> str:
        lines = [
            self.method.upper(),
            canonical_target(self.signed_target if self.signed_target is not None else self.target),
            str(self.timestamp),
            self.nonce,
            hashlib.sha256(self.body).hexdigest(),
            self.constraints or "",
        ]
        for label, value in (
            ("request-rule", self.rule),
            ("caller", self.caller),
            ("caller-type", self.caller_type),
            ("actor-id", self.actor_id),
            ("actor-context", self.context),
        ):
            if value:
                lines.append(f"{label}:{value}")
        return "\n".join(lines)

    def sign(self) -> Request:
        if self.timestamp is None:
            self.timestamp = int(time.time())
        if self.nonce is None:
            self.nonce = secrets.token_hex(16)
        signature = hmac.new(signing_key(self.api_key), self.text_to_sign().encode(), hashlib.sha256).hexdigest()
        self.headers = [
            ("x-api-key", self.api_key),
            ("User-Agent", self.user_agent),
            ("X-Alter-Timestamp", str(self.timestamp)),
            ("X-Alter-Nonce", self.nonce),
            ("X-Alter-Content-SHA256", hashlib.sha256(self.body).hexdigest()),
            ("X-Alter-Signature", signature),
        ]
        optional = (
            ("X-Alter-Scope-Constraints", self.constraints),
            ("X-Alter-Request-Rule", self.rule),
            ("X-Alter-Caller", self.caller),
            ("X-Alter-Caller-Type", self.caller_type),
            ("X-Alter-Actor-ID", self.actor_id),
            ("X-Alter-Context", self.context),
        )
        self.headers += [(name, value) for name, value in optional if value]
        if any((self.caller, self.caller_type, self.actor_id, self.context)):
            self.headers.append(("X-Alter-Signature-V2", signature))
        if self.body:
            self.headers.append(("Content-Type", "application/json"))
        return self

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def set(self, name: str, value: str) -> Request:
        """Replaces one header in place, or adds it; the signature is left as it is."""
        replaced = [(n, value if n.lower() == name.lower() else v) for n, v in self.headers]
        self.headers = replaced if self.header(name) is not None else [*self.headers, (name, value)]
        return self

    def drop(self, *names: str) -> Request:
        gone = {name.lower() for name in names}
        self.headers = [(n, v) for n, v in self.headers if n.lower() not in gone]
        return self

    def add(self, name: str, value: str) -> Request:
        self.headers.append((name, value))
        return self

    def wire(self, host: str = "127.0.0.1", content_length: int | None = None) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        length = len(self.body) if content_length is None else content_length
        if (length or self.method in ("POST", "PUT", "PATCH")) and self.header("transfer-encoding") is None:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
