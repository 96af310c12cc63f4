"""Extended cases 92 and 93: the example apps of `contrib/examples`, run as their README says, with the official client's
integrations of FastAPI and MCP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from harness.authorization_server import AuthorizationServer, query_of
from harness.connecting import Played, played
from harness.identity import Idp, goes, registered
from harness.world import World

EXAMPLES = Path(__file__).parent.parent / "contrib" / "examples"
PATIENCE_SECONDS = 60


@contextmanager
def running(world: World, of: Played, name: str, app: str, tmp_path: Path) -> Iterator[str]:
    """The example, on a socket that is open before it starts: calls wait until it takes them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        named = {"PROVIDER": of.provider_id, "API_URL": of.api_url, "MCP_URL": url, "FASTMCP_HOME": str(tmp_path)}
        world.vault()  # Its answers are judged with those of this world's key.
        env = {**os.environ, "ALTER_BASE_URL": world.tap.url, "ALTER_API_KEY": world.key.api_key, **named}
        words = ["-m", "uvicorn", "--app-dir", str(EXAMPLES / name), app, "--fd", str(listener.fileno())]
        log = (tmp_path / "log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-B", *words], env=env, pass_fds=[listener.fileno()], stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        yield url
    finally:
        process.terminate()
        code = process.wait(PATIENCE_SECONDS)
        log.seek(0)
        said = log.read()
        log.close()
        assert code in (0, -15) and "Traceback" not in said, said[-4000:]


async def connects(of: Played, connect_url: str, account: str) -> None:
    """The user follows the link and connects an account."""
    visitor = of.visitor(account)
    page = await asyncio.to_thread(lambda: visitor.connect(visitor.open(connect_url)))
    assert page.status == 200, page.text


async def test_ext_93_fastapi(world: World, authorization_server: AuthorizationServer, tmp_path: Path):
    idp, of = registered(world, authorization_server), played(world)
    alice, bob = idp.token("alice"), idp.token("bob")

    def bearer(token: str) -> dict:
        return {"Authorization": f"Bearer {token}"}

    with running(world, of, "fastapi", "app:app", tmp_path) as url:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http:
            assert (await http.get("/things")).status_code == 401
            assert world.exchanges() == []
            refused = await http.get("/things", headers=bearer("a.b.c"))
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
            me = await http.get("/me", headers=bearer(alice))
            assert me.json() == {"id": idp.user("alice")["id"], "subject": "alice", "email": "alice@example.test"}
            first = await http.get("/things", headers=bearer(alice))
            assert first.status_code == 409
            await connects(of, first.json()["detail"]["connect_url"], "alice")
            second = await http.get("/things", headers=bearer(alice))
            assert (second.status_code, second.json()["email"]) == (200, "alice@example.test")
            # Calls of two users side by side are each user's own.
            calls = [http.get("/things", headers=bearer(token)) for token in (alice, bob) * 10]
            statuses = [answer.status_code for answer in await asyncio.gather(*calls)]
            assert statuses == [200, 409] * 10
            await connects(of, (await http.get("/things", headers=bearer(bob))).json()["detail"]["connect_url"], "bob")
            answers = await asyncio.gather(*(http.get("/things", headers=bearer(t)) for t in (alice, bob) * 10))
            assert [a.json()["email"] for a in answers] == ["alice@example.test", "bob@example.test"] * 10
            # Who is deprovisioned is out at once.
            world.api("POST", f"/users/{idp.user('alice')['id']}/deprovision")
            assert (await http.get("/things", headers=bearer(alice))).status_code == 401
            assert (await http.get("/things", headers=bearer(bob))).status_code == 200


class Memory(TokenStorage):
    """What an MCP client keeps."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Assistant:
    """An MCP client of somebody who signs in as `account`; their browser runs what the server's page asks for."""

    def __init__(self, url: str, idp: Idp, account: str) -> None:
        self.url, self.idp, self.account, self.memory = url, idp, account, Memory()
        self._back: tuple[str, str | None] = ("", None)

    async def _signs_in(self, authorize_url: str) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, follow_redirects=True) as http:
            bridge = await http.get(authorize_url)
            auth_url = re.search(r'var authUrl = "([^"]+)"', bridge.text)[1]
            pending = query_of(str(bridge.url))["pending"]
            poll = f"{self.url}/auth-bridge/poll?pending={pending}"
            assert (await http.get(poll)).json() == {"status": "pending"}
            said = await asyncio.to_thread(goes, self.idp, auth_url, self.account)
            assert "You are signed in" in said
            done = (await http.get(poll)).json()
        assert done["status"] == "completed", done
        self._back = (done["code"], query_of(authorize_url).get("state"))

    async def _came_back(self) -> tuple[str, str | None]:
        return self._back

    async def call(self, *tools: str) -> list[dict]:
        """Calls tools in a connection of its own."""
        metadata = OAuthClientMetadata(client_name="test", redirect_uris=["http://127.0.0.1:9/callback"])
        auth = OAuthClientProvider(f"{self.url}/mcp", metadata, self.memory, self._signs_in, self._came_back)
        async with (
            httpx.AsyncClient(auth=auth, timeout=PATIENCE_SECONDS) as http,
            streamable_http_client(f"{self.url}/mcp", http_client=http) as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            offered = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert "context" not in offered["list_things"].inputSchema.get("properties", {})
            return [(await client.call_tool(tool)).structuredContent for tool in tools]


async def test_ext_92_mcp(world: World, authorization_server: AuthorizationServer, tmp_path: Path):
    idp, of = registered(world, authorization_server), played(world)
    with running(world, of, "mcp", "server:app", tmp_path) as url:
        bare = await asyncio.to_thread(httpx.post, f"{url}/mcp", timeout=PATIENCE_SECONDS)
        assert bare.status_code == 401 and "resource_metadata=" in bare.headers["WWW-Authenticate"]
        alice, bob = Assistant(url, idp, "alice"), Assistant(url, idp, "bob")
        who, things = await alice.call("who_am_i", "list_things")
        assert who == {"id": idp.user("alice")["id"], "subject": "alice", "email": "alice@example.test"}
        assert things["error"] == "authorization_required"
        await connects(of, things["connect_url"], "alice")
        assert len(world.exchanges(path="/sdk/auth/session")) == 1
        assert all("wait_ms" not in json_of(each.body) for each in world.exchanges(path="/sdk/auth/poll"))
        before = len(world.exchanges())
        (things,) = await alice.call("list_things")
        assert things["email"] == "alice@example.test"
        # The server checks its own tokens itself: grantd saw the one call, and the report of it.
        made = [urlsplit(each.target).path for each in world.exchanges()[before:]]
        assert set(made) <= {"/sdk/token", "/sdk/oauth/audit/api-call"} and made.count("/sdk/token") == 1
        # Another user at the same server reaches nothing of the first.
        who, things = await bob.call("who_am_i", "list_things")
        assert who["subject"] == "bob" and things["error"] == "authorization_required"
        both = await asyncio.gather(*(each.call("who_am_i") for each in (alice, bob) * 3))
        assert [each[0]["subject"] for each in both] == ["alice", "bob"] * 3
        # A token that was refreshed is the same user's.
        await refreshed(url, alice.memory)
        (who,) = await alice.call("who_am_i")
        assert who["subject"] == "alice"
    tools = [event["context"]["tool"] for event in world.events(kind="token.released")]
    assert tools == ["list_things"]


async def refreshed(url: str, memory: Memory) -> None:
    """Takes a new access token for the refresh token."""
    client = memory.client
    form = {"grant_type": "refresh_token", "refresh_token": memory.tokens.refresh_token, "client_id": client.client_id}
    if client.client_secret:
        form["client_secret"] = client.client_secret
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answer = await http.post(f"{url}/token", data=form)
    assert answer.status_code == 200, answer.text
    before, memory.tokens = memory.tokens, OAuthToken.model_validate(answer.json())
    assert memory.tokens.access_token != before.access_token


def json_of(body: bytes) -> dict:
    return json.loads(body)
