"""Connecting accounts: how an app is registered with providers of the tests, and how a user goes through Connect."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from alter_sdk import App, ConnectResult, ConnectSession

from harness.authorization_server import AuthorizationServer, Client
from harness.quirks import Quirks
from harness.quirky import Provider
from harness.visitor import Shown, Visitor
from harness.world import World

REAL_SCOPES = ["openid", "email", "mail.read"]
SCOPES = ["read", "write"]


def redirect_uri(world: World) -> str:
    return f"{world.server.url}/oauth/callback"


def register(world: World, provider_id: str = "acme", **fields: Any) -> dict:
    return world.api("POST", "/providers", {"provider": provider_id, "name": "Acme", **fields})


@dataclass
class Real:
    """An app's registration with the authorization server, and the client it is there."""

    world: World
    client: Client
    provider_id: str

    @property
    def api_url(self) -> str:
        return f"{self.client.server.url}/api/mail"

    def visitor(self, account: str = "alice") -> Visitor:
        return Visitor(lambda link: self.client.server.consent(link, account))


def real(
    world: World,
    server: AuthorizationServer,
    provider_id: str = "real",
    auth: str = "client_secret_basic",
    scopes: list[str] = REAL_SCOPES,
    **settings: Any,
) -> Real:
    """Registers the app with the authorization server, by nothing but its issuer."""
    client = server.client(redirect_uri(world), auth, **settings)
    custom = {"issuer": server.url, "scopes": scopes}
    if auth == "client_secret_post":
        custom["client_auth"] = "post"
    register(
        world,
        provider_id,
        name="Example Accounts",
        custom=custom,
        client_id=client.id,
        client_secret=client.secret,
        allowed_hosts=[server.authority],
    )
    return Real(world, client, provider_id)


@dataclass
class Played:
    """An app's registration with a provider of the quirks lab."""

    world: World
    provider: Provider
    provider_id: str

    @property
    def api_url(self) -> str:
        return self.provider.url("api/things")

    def visitor(self, account: str = "alice", **answer: str) -> Visitor:
        """Somebody who consents as `account`; `denies="access_denied"`: who does not."""

        def consent(link: str) -> str:
            self.provider.account = account
            self.provider.denies = answer.get("denies")
            return followed(link)

        return Visitor(consent)


def played(
    world: World,
    quirks: Quirks | None = None,
    provider_id: str = "acme",
    *,
    texts: dict[str, str] | None = None,
    **fields: Any,
) -> Played:
    """Registers the app with a provider that behaves so, described by what can be said of a custom provider. `texts`: what its
    scopes open, in words."""
    quirks = quirks or Quirks()
    provider = world.services.quirky.provider(quirks)
    custom: dict[str, Any] = {
        "authorize_url": provider.url("authorize"),
        "token_url": provider.url("token"),
        "revoke_url": provider.url("revoke"),
        "userinfo_url": provider.url("userinfo"),
        "client_auth": quirks.auth,
        "no_pkce": quirks.pkce == "refused",
        "scopes": SCOPES,
        "scope_texts": texts or {},
    }
    if quirks.offline:
        custom["authorize_params"] = dict([quirks.offline])
    if quirks.sends_iss:
        custom["issuer"] = f"{provider.lab.url}/{provider.name}"
    named = {"client_id": provider.client_id, "client_secret": provider.client_secret}
    hosts = {"allowed_hosts": [provider.lab.authority]}
    register(world, provider_id, **{"name": provider_id.title(), "custom": custom, **named, **hosts, **fields})
    return Played(world, provider, provider_id)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def followed(link: str) -> str:
    """Where a link redirects to, not yet visited."""
    try:
        with urllib.request.build_opener(_NoRedirects()).open(link, timeout=30) as answer:
            raise AssertionError(f"{link} shows a page: {answer.read()[:500]!r}")
    except urllib.error.HTTPError as answer:
        location = answer.headers.get("Location")
        assert location, f"{link}: {answer.code} {answer.read()[:500]!r}"
        return location


async def session(app: App, provider_id: str, **options: Any) -> ConnectSession:
    return await app.create_connect_session(allowed_providers=[provider_id], **options)


async def poll(app: App, made: ConnectSession, events: list | None = None, timeout: int = 20) -> list[ConnectResult]:
    on_event = None if events is None else events.append
    return await app.poll_connect_session(made.session_token, timeout=timeout, poll_interval=0.05, on_event=on_event)


@dataclass
class Connected:
    """An account that somebody connected."""

    result: ConnectResult
    page: Shown = field(repr=False)

    @property
    def grant_id(self) -> str:
        return self.result.grant_id


async def connect(app: App, of: Real | Played, account: str = "alice", **options: Any) -> Connected:
    """Connects an account, from the session to the result."""
    made = await session(app, of.provider_id, **options)
    visitor = of.visitor(account)
    page = visitor.connect(visitor.open(made.connect_url))
    (result,) = await poll(app, made)
    return Connected(result, page)
