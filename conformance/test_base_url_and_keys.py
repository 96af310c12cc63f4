"""Cases 1 to 11: where the client finds the server, TLS, path prefixes, and the keys that the server mints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from http.client import HTTPException

import pytest
from alter_sdk import AlterSDKError, App, BackendError, NetworkError, is_valid_key

from harness import http
from harness.server import Grantd
from harness.tap import Tap
from harness.world import Services, World, environment
from signing import BASE32, key_checksum

PREFIX = "/vault/alter"


async def test_core_01_loopback_http_is_accepted(world: World):
    async with world.vault() as app:
        assert app.base_url == world.tap.url
        assert (await app.list_grants()).total == 0


async def test_core_05_private_authority_is_not_trusted_by_itself(tls_world: World):
    with environment(SSL_CERT_FILE=None, SSL_CERT_DIR=None):
        async with tls_world.vault(url=tls_world.server.url) as app:
            with pytest.raises(NetworkError):
                await app.list_grants()


async def test_core_06_private_authority_and_http_2(tls_world: World, caplog: pytest.LogCaptureFixture):
    corner = tls_world.services.tls_provider.corner()
    secret = tls_world.secret()
    caplog.set_level(logging.INFO, "httpx")
    with environment(SSL_CERT_FILE=str(tls_world.services.authority_file)):
        async with tls_world.vault(url=tls_world.server.url, caller="tls") as app:
            answer = await app.request("GET", corner.url(), grant_id=secret.grant_id, context={"run_id": "r1"})
            assert answer.status_code == 200
            # The second call carries and signs the actor id that the first one brought, over HTTP/2 too.
            assert (await app.list_grants()).total == 1
            assert app.actor_id
    assert corner.seen[0].header("authorization") == f"Bearer {secret.value}"
    to_us = [r.getMessage() for r in caplog.records if f":{tls_world.server.port}/sdk/" in r.getMessage()]
    assert to_us and all('"HTTP/2 2' in line for line in to_us), to_us


async def test_core_07_certificate_for_another_name(tls_world: World):
    with environment(SSL_CERT_FILE=str(tls_world.services.authority_file)):
        async with tls_world.vault(url=f"https://127.0.0.1:{tls_world.server.port}") as app:
            with pytest.raises(NetworkError):
                await app.list_grants()


def test_plain_http_on_the_tls_port_is_not_answered_with_a_redirect(tls_world: World):
    try:
        answer = http.send(f"http://127.0.0.1:{tls_world.server.port}", b"GET /sdk/scopes HTTP/1.1\r\nHost: x\r\n\r\n")
    except (OSError, HTTPException):  # hanging up is fine
        answer = None
    assert answer is None or not 300 <= answer.status < 400
    tls_world.server.assert_alive()


@pytest.fixture
def prefixed(
    request: pytest.FixtureRequest, private_server: Callable[..., Grantd], services: Services
) -> Iterator[World]:
    """A server that is published under a path prefix."""
    server = private_server(flags=("--public-url", f"http://127.0.0.1:9{PREFIX}/"))
    tap = Tap(server.url)
    yield World(server, tap, services, services.provider.corner(), request.node.originalname)
    tap.close()


async def _use(world: World, url: str) -> None:
    secret = world.secret()
    async with world.vault(url=url, caller="behind a proxy") as app:
        answer = await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
        assert answer.status_code == 200
        assert secret.grant_id in [g.grant_id for g in (await app.list_grants()).grants]
        with pytest.raises(BackendError) as unbuilt:
            await app.provider_specs.get("oauth", "a b/c%2F")
        assert unbuilt.value.details["status_code"] == 501


async def test_core_08_path_prefix_left_on_by_the_reverse_proxy(prefixed: World):
    await _use(prefixed, prefixed.tap.url + PREFIX)
    assert {e.target.startswith(PREFIX + "/sdk/") for e in prefixed.exchanges()} == {True}
    assert prefixed.check_answers(PREFIX) >= 3


async def test_core_08_path_prefix_taken_off_by_the_reverse_proxy(prefixed: World):
    stripping = Tap(
        prefixed.server.url, rewrite=lambda request: request.replace(f" {PREFIX}/sdk/".encode(), b" /sdk/", 1)
    )
    try:
        await _use(prefixed, stripping.url + PREFIX)
        assert stripping.exchanges(prefixed.key.api_key)
    finally:
        stripping.close()


async def test_core_08_trailing_slash_of_the_base_url(prefixed: World):
    await _use(prefixed, prefixed.tap.url + PREFIX + "//")


@pytest.mark.parametrize("prefix", ["/vault", "/vault/alter/alter", "/other", "/VAULT/ALTER"])
async def test_core_08_any_other_prefix_is_an_unknown_route(prefixed: World, prefix: str):
    async with prefixed.vault(url=prefixed.tap.url + prefix) as app:
        with pytest.raises(BackendError) as error:
            await app.list_grants()
    assert error.value.details["error"] == "unknown_route"
    assert error.value.details["status_code"] == 501


async def test_core_08_prefix_on_a_server_without_one(world: World):
    async with world.vault(url=world.tap.url + "/alter") as app:
        with pytest.raises(BackendError) as error:
            await app.list_grants()
    assert error.value.details["error"] == "unknown_route"


def test_core_11_minted_keys_pass_the_clients_check(world: World):
    minted = [world.mint().api_key for _ in range(20)]
    assert len(set(minted)) == 20
    for api_key in minted:
        alter, kind, random, checksum = api_key.split("_")
        assert (alter, kind, len(api_key)) == ("alter", "rk", 38)
        assert len(random) == 22 and set(random) <= set(BASE32)
        assert key_checksum(kind, random) == checksum
        assert is_valid_key(api_key)
        world.vault(api_key)


def test_core_11_prefix_that_lists_show_is_the_first_thirteen_characters(world: World):
    key = world.mint()
    shown = world.api("GET", f"/keys/{key.id}")
    assert shown["key_prefix"] == key.api_key[:13]
    assert key.api_key not in repr(shown)


async def test_core_10_mistyped_key_never_leaves_the_client(world: World):
    api_key = world.mint().api_key
    mistyped = api_key[:-1] + ("a" if api_key[-1] != "a" else "b")
    with pytest.raises(AlterSDKError):
        world.vault(mistyped)
    assert world.exchanges(mistyped) == []


@pytest.mark.parametrize("url", ["http://10.0.0.5", "http://x.localhost", "http://localhost.", "http://127.0.0.2"])
def test_core_03_04_plain_http_beyond_loopback_is_refused_by_the_client(world: World, url: str):
    with pytest.raises(AlterSDKError):
        world.vault(url=url)


def test_core_02_base_url_is_no_argument(world: World):
    with pytest.raises(TypeError):
        App(api_key=world.key.api_key, base_url=world.tap.url)


async def test_core_09_proxy_variable_without_exception_breaks_loopback(world: World):
    dead = f"http://127.0.0.1:{world.services.closed_port}"
    with environment(HTTP_PROXY=dead, NO_PROXY=None, no_proxy=None):
        async with world.vault() as app:
            with pytest.raises(NetworkError):
                await app.list_grants()
    assert world.exchanges() == []
