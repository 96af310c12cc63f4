"""The same bounds and refusals over HTTP/2, which frames requests in its own way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from harness import schema
from harness.http import Answer
from harness.world import World
from signing import Request, invent_key


@asynccontextmanager
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    trust = ssl.create_default_context(cafile=str(world.services.authority_file))
    async with httpx.AsyncClient(http2=True, verify=trust, base_url=world.server.url, timeout=30) as http:
        yield http


async def send(http: httpx.AsyncClient, request: Request) -> Answer:
    """The signed request, and nothing that the client library would add."""
    got = await http.send(
        httpx.Request(
            request.method, str(http.base_url) + request.target, headers=request.headers, content=request.body
        )
    )
    assert got.http_version == "HTTP/2"
    return Answer(got.status_code, list(got.headers.multi_items()), got.content)


async def test_signed_requests_and_refusals(tls_world: World):
    world = tls_world
    secret = world.secret()
    async with client(world) as http:
        fine = await send(http, world.token_request(secret.grant_id))
        schema.answer("POST", "/sdk/token", fine)
        assert fine.status == 200
        for request, status, code in (
            (world.token_request(secret.grant_id).set("X-Alter-Signature", "0" * 64), 401, "signature_invalid"),
            (Request("GET", "/sdk/scopes", invent_key()).sign(), 401, "invalid_key"),
            (world.token_request(secret.grant_id).add("Content-Encoding", "gzip"), 415, "encoding_unsupported"),
            (world.signed("GET", "/sdk/nothing"), 501, "unknown_route"),
            (world.signed("DELETE", "/sdk/token"), 405, "method_not_allowed"),
            (Request("POST", "/sdk/token", world.key.api_key, b" " * (64 * 1024 + 1)).sign(), 413, "body_too_large"),
        ):
            answer = await send(http, request)
            assert (answer.status, answer.error) == (status, code)
            schema.answer(request.method, request.target, answer)
        # The connection, or a new one, goes on.
        assert (await send(http, world.token_request(secret.grant_id))).status == 200


async def test_header_floods(tls_world: World):
    world = tls_world
    async with client(world) as http:
        for count, size in ((101, 1), (2000, 1), (1, 16 * 1024 + 1), (6, 11_000)):
            request = world.signed("GET", "/sdk/scopes")
            for number in range(count):
                request.add(f"x-fill-{number}", "a" * size)
            try:
                answer = await send(http, request)
            except httpx.TransportError:
                continue  # the stream or the connection was refused
            assert answer.status == 431, (count, size, answer)
        assert (await send(http, world.signed("GET", "/sdk/scopes"))).status == 200


async def test_many_streams_on_one_connection(tls_world: World):
    world = tls_world
    secret = world.secret()
    async with client(world) as http:
        answers = await asyncio.gather(*(send(http, world.token_request(secret.grant_id)) for _ in range(100)))
    assert {a.status for a in answers} == {200}
    assert len(world.events(kind="token.released")) == 100


async def test_hanging_up_in_the_middle_of_streams(tls_world: World):
    """Streams that are cancelled cost nothing that lasts."""
    world = tls_world
    secret = world.secret()
    for _ in range(10):
        async with client(world) as http:
            calls = [asyncio.create_task(send(http, world.token_request(secret.grant_id))) for _ in range(20)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    async with client(world) as http:
        assert (await send(http, world.token_request(secret.grant_id))).status == 200
    world.server.assert_alive()
