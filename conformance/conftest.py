"""Fixtures: the real server on each engine, the services beside it, and one world per test.

`GRANTD_BIN` names the binary. SQLite is always tested; PostgreSQL if `GRANTD_TEST_POSTGRES_URL` is set, as CI must.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import canary
from harness.aws import Aws
from harness.postgres import Database
from harness.provider import Provider, closed_port
from harness.quirky import Quirky
from harness.server import Grantd
from harness.tap import Tap
from harness.tls import Authority
from harness.world import Admin, Services, World

if TYPE_CHECKING:  # The oldest client's environment has neither Node nor Playwright.
    from harness.authorization_server import AuthorizationServer
    from harness.browser import Browsing, HostPage

CLIENT = metadata.version("alter-sdk")
POSTGRES = os.environ.get("GRANTD_TEST_POSTGRES_URL")
NODE_MODULES = os.environ.get("GRANTD_TEST_NODE_MODULES")
ENGINES = ["sqlite", "postgres"] if POSTGRES else ["sqlite"]

# One virtual environment per client version: 0.29.0 runs everything but the smoke set, 0.21.0 runs that alone.
collect_ignore_glob = ["smoke/*"] if CLIENT == "0.29.0" else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    if CLIENT not in ("0.29.0", "0.21.0"):
        raise pytest.UsageError(f"alter-sdk {CLIENT} is installed; these tests are for 0.29.0 (and smoke/ for 0.21.0)")
    if os.environ.get("CI") == "true" and not POSTGRES:
        raise pytest.UsageError("GRANTD_TEST_POSTGRES_URL is not set, and CI must test both engines")
    if os.environ.get("CI") == "true" and CLIENT == "0.29.0" and not NODE_MODULES:
        raise pytest.UsageError("GRANTD_TEST_NODE_MODULES is not set, and CI must test with a browser")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What does not depend on the engine runs on one of them."""

    def is_repeated(item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        return bool(callspec and item.get_closest_marker("one_engine")) and callspec.params.get("engine") in ENGINES[1:]

    repeated = [item for item in items if is_repeated(item)]
    config.hook.pytest_deselected(items=repeated)
    items[:] = [item for item in items if item not in repeated]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests, each in an event loop of its own, or in the browser's."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    run = arguments["browsing"].run if "browsing" in arguments else asyncio.run
    run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def binary() -> str:
    path = os.environ.get("GRANTD_BIN", "")
    if not os.access(path, os.X_OK):
        pytest.exit(f"GRANTD_BIN={path!r} does not name an executable", returncode=4)
    return os.path.abspath(path)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def services(authority: Authority, quirky: Quirky, request: pytest.FixtureRequest) -> Iterator[Services]:
    provider, aws = Provider(), Aws()
    has_node = NODE_MODULES and CLIENT == "0.29.0"
    other_ports = (request.getfixturevalue("authorization_server").port,) if has_node else ()
    tls_provider = Provider(authority.issue("provider", dns=("localhost",), ips=("127.0.0.1",)))
    refusing, port = closed_port()
    yield Services(provider, tls_provider, aws, quirky, port, authority.file, other_ports)
    for service in (provider, tls_provider, aws, refusing):
        service.close()


@pytest.fixture(scope="session")
def quirky() -> Iterator[Quirky]:
    """OAuth providers that play by script what real ones do."""
    quirky = Quirky()
    yield quirky
    quirky.close()


@pytest.fixture(scope="session")
def node_modules() -> str:
    if not NODE_MODULES:
        pytest.skip("GRANTD_TEST_NODE_MODULES is not set: README.md says how to install what it names")
    return NODE_MODULES


@pytest.fixture(scope="session")
def authorization_server(node_modules: str) -> Iterator[AuthorizationServer]:
    """A real one that nobody here wrote; a test makes a client of its own."""
    from harness.authorization_server import AuthorizationServer

    server = AuthorizationServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def browsing(node_modules: str) -> Iterator[Browsing]:
    """Chromium. Tests that take it are coroutines, and run in its event loop."""
    from harness.browser import Browsing

    browsing = Browsing()
    yield browsing
    browsing.close()


@pytest.fixture
def host_page(node_modules: str) -> Iterator[HostPage]:
    """A site of somebody's own with the official browser client."""
    from harness.browser import HostPage

    page = HostPage()
    yield page
    page.close()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def launch(
    binary: str, engine: str, directory: Path, services: Services, env: dict[str, str] | None, flags: tuple[str, ...]
) -> Grantd:
    database = Database(POSTGRES) if engine == "postgres" else None
    env = {"GRANTD_OUTBOUND_ALLOW": services.outbound, **(env or {})}
    server = Grantd(binary, directory, database=database, env=env, flags=flags)
    server.init()
    return server


def leaks(server: Grantd) -> list[canary.Find]:
    """Looks for secrets, API keys and tokens wherever the server writes: audit, log, data directory, database."""
    finds: list[canary.Find] = []
    if server.process and server.process.poll() is None:
        admin, offset = Admin(server), 0
        while True:
            page = admin.call("GET", f"/apps?limit=1000&offset={offset}")
            for app in page["items"]:
                export = admin.fetch(f"/apps/{app['id']}/audit/export?format=jsonl")
                finds += canary.scan(f"audit export of {app['name']}", export)
            offset += len(page["items"])
            if not page["has_more"]:
                break
    finds += canary.scan("server log", server.log.read_bytes())
    finds += canary.scan_directory(server.data_dir)
    if server.database:
        finds += canary.scan("database dump", server.database.dump())
    return finds


def dispose(server: Grantd) -> None:
    """Ends a server, and fails if it leaked, panicked or does not end cleanly."""
    try:
        found = leaks(server)
        code = server.stop() if server.process and server.process.poll() is None else None
        assert not found, "\n".join(map(str, found[:20]))
        assert code in (None, 0), f"serve ended with {code} on SIGTERM"
        assert "panicked at" not in server.log_text(), server.log_text()[-4000:]
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        if server.database:
            server.database.drop()


@pytest.fixture(scope="session")
def server(binary: str, engine: str, services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grantd]:
    """The server that most tests share. It is never restarted, and nothing in it is looked at by two tests."""
    server = launch(binary, engine, tmp_path_factory.mktemp(engine), services, None, ())
    server.start()
    yield server
    dispose(server)


@pytest.fixture(scope="session")
def tap(server: Grantd) -> Iterator[Tap]:
    tap = Tap(server.url)
    yield tap
    tap.close()


@pytest.fixture
def world(request: pytest.FixtureRequest, server: Grantd, tap: Tap, services: Services) -> Iterator[World]:
    world = World(server, tap, services, services.provider.corner(), request.node.originalname)
    yield world
    world.check_answers()
    server.assert_alive()


@pytest.fixture
def private_server(
    binary: str, engine: str, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Grantd]]:
    """Makes servers for one test alone, which it may configure, stop, starve and kill."""
    made: list[Grantd] = []

    def make(
        *,
        env: dict[str, str] | None = None,
        flags: tuple[str, ...] = (),
        start: bool = True,
        beside: Grantd | None = None,
    ) -> Grantd:
        """`beside`: another process for the install of that one."""
        directory = tmp_path_factory.mktemp(f"private-{engine}")
        if beside:
            shared = {"GRANTD_OUTBOUND_ALLOW": services.outbound, "GRANTD_REPLICAS": "2", **(env or {})}
            made.append(beside.replica(directory, shared))
        else:
            made.append(launch(binary, engine, directory, services, env, flags))
        return made[-1].start() if start else made[-1]

    yield make
    # A replica before what it is one of, which takes the database along.
    for server in reversed(made):
        dispose(server)


@pytest.fixture
def private_world(
    request: pytest.FixtureRequest, private_server: Callable[..., Grantd], services: Services
) -> Iterator[World]:
    """A world on a server of its own."""
    server = private_server()
    tap = Tap(server.url)
    yield World(server, tap, services, services.provider.corner(), request.node.originalname)
    tap.close()


@pytest.fixture
def tls_world(
    request: pytest.FixtureRequest,
    private_server: Callable[..., Grantd],
    services: Services,
    authority: Authority,
) -> World:
    """A world on a server that speaks TLS, with a certificate for `localhost` alone from a private authority."""
    issued = authority.issue("server", dns=("localhost",))
    env = {"GRANTD_TLS_CERT_FILE": str(issued.cert), "GRANTD_TLS_KEY_FILE": str(issued.key)}
    server = private_server(env={**env, "GRANTD_PUBLIC_URL": "https://localhost:8443"}, start=False)
    server.authority = authority.file
    server.start()
    return World(server, None, services, services.provider.corner(), request.node.originalname)
