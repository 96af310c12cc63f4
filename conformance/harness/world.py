"""One test's own world: an app, its keys, secrets and grants, the client, and a corner of the provider."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import randrange
from urllib.parse import urlencode

from harness import canary, http, schema
from harness.aws import Aws
from harness.http import Answer
from harness.provider import Corner, Provider
from harness.quirky import Quirky
from harness.server import Grantd
from harness.tap import Exchange, Tap
from signing import Request

ALL_SCOPES = """tokens:retrieve proxy:execute proxy:stream connect:initiate keys:derive audit:emit spans:emit
    identity:resolve identity:assert agents:admin grants:admin keys:admin secrets:admin idp_users:admin approvals:admin
    providers:admin""".split()


@dataclass
class Services:
    """What runs beside the server for the whole session."""

    provider: Provider
    tls_provider: Provider
    aws: Aws
    quirky: Quirky
    closed_port: int
    authority_file: Path
    # Of services that not every environment has.
    other_ports: tuple[int, ...] = ()

    @property
    def outbound(self) -> str:
        own = (self.provider.port, self.tls_provider.port, self.aws.port, self.quirky.port, self.closed_port)
        ports = own + self.other_ports
        return ",".join(f"127.0.0.1:{port}" for port in ports)


class ApiError(Exception):
    def __init__(self, method: str, path: str, answer: Answer) -> None:
        super().__init__(f"{method} {path}: {answer}")
        self.status, self.error, self.answer = answer.status, answer.error, answer


class Admin:
    """The management API, as the command line uses it."""

    def __init__(self, server: Grantd) -> None:
        self.server = server

    def call(self, method: str, path: str, value: object = None) -> object:
        """The parsed answer, or the refusal as an exception."""
        body = self.fetch(path, method, None if value is None else json.dumps(value).encode())
        return json.loads(body) if body else None

    def fetch(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self.server.pat}", "Content-Type": "application/json"}
        url = f"{self.server.url}/api/v1{path}"
        answer = http.call(method, url, headers=headers, body=body, authority=self.server.authority)
        if answer.status >= 300:
            raise ApiError(method, path, answer)
        return answer.body


@dataclass
class Key:
    id: str
    api_key: str


@dataclass
class Secret:
    id: str
    slug: str
    grant_id: str
    value: str


@dataclass
class World:
    server: Grantd
    tap: Tap
    services: Services
    corner: Corner
    name: str
    keys: list[Key] = field(default_factory=list)
    # Raw requests come from a loopback address of this test's own: failed authentications are limited by address.
    source: str = field(default_factory=lambda: f"127.{randrange(1, 255)}.{randrange(1, 255)}.{randrange(1, 255)}")
    _app_id: str | None = None
    _key: Key | None = None
    _used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.admin = Admin(self.server)

    @property
    def app_id(self) -> str:
        if self._app_id is None:
            self._app_id = self.admin.call("POST", "/apps", {"name": f"{self.name} {uuid.uuid4().hex[:8]}"})["id"]
        return self._app_id

    def other_app(self) -> World:
        """A second app on the same server: everything in it is foreign to the first."""
        return World(self.server, self.tap, self.services, self.corner, self.name + " other")

    def api(self, method: str, path: str, value: object = None) -> object:
        """The management API below this world's app."""
        return self.admin.call(method, f"/apps/{self.app_id}{path}", value)

    def cli(self, *arguments: str, **options: object) -> object:
        return self.server.cli(*arguments, "--app", self.app_id, **options)

    def mint(self, scopes: list[str] | None = None, **fields: object) -> Key:
        body = {"name": f"key {len(self.keys)}", **fields}
        body["scopes"] = ALL_SCOPES if scopes is None else scopes
        minted = self.api("POST", "/keys", body)
        self.keys.append(Key(minted["id"], minted["api_key"]))
        return self.keys[-1]

    @property
    def key(self) -> Key:
        """This world's first key: every scope, no limits."""
        if self._key is None:
            self._key = self.mint()
        return self._key

    def secret(self, value: str | None = None, *, hosts: list[str] | None = None, **fields: object) -> Secret:
        value = value or canary.token()
        services = self.services
        allowed = [services.provider.authority, services.tls_provider.authority, f"127.0.0.1:{services.closed_port}"]
        body = {
            "name": f"Secret {uuid.uuid4().hex[:8]}",
            "value": value,
            "allowed_hosts": allowed if hosts is None else hosts,
            **fields,
        }
        made = self.api("POST", "/managed-secrets", body)
        return Secret(made["id"], made["slug"], made["grant_id"], value)

    def grant(self, secret: Secret, **fields: object) -> str:
        body = {"principal_type": "system", "label": f"l-{uuid.uuid4().hex[:8]}", **fields}
        return self.api("POST", f"/managed-secrets/{secret.id}/grants", body)["grant_id"]

    def revoke(self, grant_id: str, reason: str | None = None) -> dict:
        return self.api("POST", f"/grants/{grant_id}/revoke", {"reason": reason} if reason else {})

    def update_app(self, **fields: object) -> dict:
        return self.admin.call("PATCH", f"/apps/{self.app_id}", fields)

    def events(self, **filters: object) -> list[dict]:
        """Every audit event of the app that matches, oldest first, page by page."""
        events, cursor = [], None
        while True:
            query = {**filters, "limit": 1000, **({"cursor": cursor} if cursor else {})}
            page = self.api("GET", f"/audit/events?{urlencode(query)}")
            events += page["items"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return sorted(events, key=lambda e: (e["at"], e["id"]))

    def export(self, path: Path) -> Path:
        self.cli("audit", "export", "--format", "jsonl", "--out", str(path), output="json")
        return path

    # The client

    def vault(self, key: Key | str | None = None, kind: object = None, *, url: str | None = None, **options: object):
        """The unmodified client, pointed at the recording tap in front of the server."""
        from alter_sdk import App

        key = key or self.key
        text = key if isinstance(key, str) else key.api_key
        self._used.add(text)
        with environment(ALTER_BASE_URL=url or self.tap.url):
            return (kind or App)(api_key=text, **options)

    def exchanges(self, key: Key | str | None = None, path: str | None = None) -> list[Exchange]:
        key = key or self.key
        text = key if isinstance(key, str) else key.api_key
        return [e for e in self.tap.exchanges(text) if path is None or e.target.partition("?")[0] == path]

    def forget(self, key: Key) -> None:
        """Ends the editing of this key's requests; what was answered to edited ones is not judged."""
        self.tap.edit.pop(key.api_key, None)
        self.tap.edit_answers.pop(key.api_key, None)
        self._used.discard(key.api_key)

    def check_answers(self, prefix: str = "") -> int:
        """Every answer the client got in this world obeys the schemas; returns how many there were."""
        count = 0
        for api_key in self._used:
            for exchange in self.exchanges(api_key):
                if exchange.answer is not None:
                    schema.answer(exchange.method, exchange.target.removeprefix(prefix), exchange.answer)
                    count += 1
        return count

    # Raw requests

    def signed(self, method: str, target: str, value: object = None, *, key: Key | None = None, **extra: object):
        api_key = (key or self.key).api_key
        if value is None:
            return Request(method, target, api_key, **extra).sign()
        return Request.json(method, target, api_key, value, **extra).sign()

    def token_body(self, grant_id: str, url: str | None = None, **extra: object) -> dict:
        target = {"method": "GET", "url": url or self.corner.url()}
        return {"grant_id": grant_id, "reason": None, "request": target, **extra}

    def token_request(self, grant_id: str, **extra: object) -> Request:
        return self.signed("POST", "/sdk/token", self.token_body(grant_id), **extra)

    def send(self, request: Request | bytes) -> Answer:
        data = request if isinstance(request, bytes) else request.wire(f"127.0.0.1:{self.server.port}")
        return http.send(self.server.url, data, source=self.source)


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Environment variables for a moment: the client reads them when it is constructed."""
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
