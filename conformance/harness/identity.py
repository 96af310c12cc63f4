"""Identity providers: how an app is registered with the authorization server of the tests, and how its users sign in."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import Any

from alter_sdk import App, AuthResult

from harness.authorization_server import AuthorizationServer, Client
from harness.connecting import redirect_uri
from harness.visitor import Visitor
from harness.world import World


@dataclass
class Idp:
    """An identity provider of an app, and the client that the app is there."""

    world: World
    client: Client
    id: str

    @property
    def issuer(self) -> str:
        return self.client.server.url

    def token(self, account: str = "alice", *groups: str) -> str:
        """The ID token of a user whom the app signed in itself."""
        self.client.configure(groups=list(groups))
        return self.client.id_token(account)

    def visitor(self, account: str = "alice") -> Visitor:
        return Visitor(lambda link: self.client.server.consent(link, account))

    def user(self, account: str = "alice") -> dict:
        """The user's row, as operators see it."""
        (user,) = [each for each in self.world.api("GET", "/users")["items"] if each["subject"] == account]
        return user


def registered(world: World, server: AuthorizationServer, **fields: Any) -> Idp:
    """Registers the app, by nothing but the issuer and the client that signs users in."""
    client = server.client(redirect_uri(world))
    named = {"client_id": client.id, "client_secret": client.secret, "audiences": [client.id]}
    claims = {"groups": "groups", "email": "email", "name": "name"}
    made = world.api("POST", "/identity-providers", {"issuer": server.url, "claims": claims, **named, **fields})
    return Idp(world, client, made["id"])


def goes(idp: Idp, auth_url: str, account: str = "alice") -> str:
    """Somebody follows the link and signs in; what the page says in the end."""
    visitor = idp.visitor(account)
    return visitor.connect(visitor.open(auth_url)).text


async def signed_in(app: App, idp: Idp, account: str = "alice") -> AuthResult:
    made = await app.create_auth_session()
    said = await asyncio.to_thread(goes, idp, made.auth_url, account)
    assert "You are signed in" in said, said
    return await app.poll_auth_session(made.session_token, timeout=20, poll_interval=0.05)


def part(token: str, index: int) -> dict:
    """The header (0) or the claims (1) of a token."""
    text = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def with_header(token: str, **changed: object) -> str:
    """The token under another header; its signature is then not one of it."""
    return ".".join([encoded(json.dumps({**part(token, 0), **changed}).encode()), *token.split(".")[1:]])


def with_claims(token: str, **changed: object) -> str:
    """The token with other claims, which nobody signed."""
    header, _, signature = token.split(".")
    return ".".join([header, encoded(json.dumps({**part(token, 1), **changed}).encode()), signature])
