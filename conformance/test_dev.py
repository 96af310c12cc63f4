"""`grantd dev` and its demo provider, from the link it prints to an account that is ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from alter_sdk import App, GrantRevokedError

from harness import http
from harness.server import wait_until
from harness.visitor import Visitor
from harness.world import environment

# `dev` is the same whatever database the other tests use.
pytestmark = pytest.mark.one_engine


@dataclass
class Dev:
    ready: dict
    connect_url: str | None
    directory: Path

    def vault(self) -> App:
        with environment(ALTER_BASE_URL=self.ready["base_url"]):
            return App(api_key=self.ready["api_key"])

    def end_access_tokens(self) -> None:
        """What only minutes would bring about: grantd thinks that no access token is good any more. Before it has read one."""
        with closing(sqlite3.connect(self.directory / "grantd.db", timeout=30)) as connection, connection:
            changed = connection.execute("UPDATE credentials SET expires_at_ms = 1 WHERE expires_at_ms IS NOT NULL")
            assert changed.rowcount == 1


@contextmanager
def running(binary: str, directory: Path) -> Iterator[Dev]:
    """A `dev` with its data in a directory, until the end of the block."""
    errors = directory.with_suffix(".log")
    with errors.open("w") as log:
        process = subprocess.Popen(
            [binary, "dev", "--data-dir", str(directory), "--listen", "127.0.0.1:0", "--output", "json"],
            env={k: v for k, v in os.environ.items() if not k.startswith("GRANTD_")},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            ready = json.loads(process.stdout.readline())
            link = re.search(r"^ *(http://\S+/sdk/oauth/connect#session=\S+)$", errors.read_text(), re.MULTILINE)
            yield Dev(ready, link and link[1], directory)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0


def consents(answer: str = "allow", person: str = "demo-ben"):
    """Somebody at the demo provider's page, which works without script."""

    def consent(link: str) -> str:
        page = http.call("GET", link)
        assert page.status == 200 and b"Sign in to Demo" in page.body
        cookie = page.header("Set-Cookie").partition(";")[0]
        (shown,) = re.findall(r'name="page" value="([\w-]+)"', page.body.decode())
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(link))
        form = urlencode({"page": shown, "person": person, "answer": answer}).encode()
        headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
        back = http.call("POST", f"{origin}/answer", headers=headers, body=form)
        assert back.status == 303, back
        return back.header("Location")

    return consent


def connected(dev: Dev) -> None:
    visitor = Visitor(consents())
    page = visitor.connect(visitor.open(dev.connect_url))
    assert "Demo is connected" in page.title, page.text


async def test_an_account_is_connected_used_renewed_and_ended(binary: str, tmp_path: Path):
    directory = tmp_path / "vault"
    with running(binary, directory) as dev:
        issuer = dev.ready["demo_provider"]
        document = http.call("GET", f"{issuer}/.well-known/openid-configuration").json()
        assert document["issuer"] == issuer
        connected(dev)
        async with dev.vault() as app:
            (grant,) = [g for g in (await app.list_grants()).grants if getattr(g, "provider_id", None) == "demo"]
            url = dev.ready["demo_url"] + "/hello"

            async def token() -> str:
                answer = await app.request("GET", url, grant_id=grant.grant_id)
                assert answer.status_code == 200, answer
                return answer.json()["headers"]["authorization"]

            first = await token()
            assert await token() == first, "it is still good"
            # By itself: the provider does not take a token that nobody got from it.
            refused = http.call("GET", url, headers={"Authorization": first[:-4] + "AAAA"})
            assert refused.status == 401

    with running(binary, directory) as dev:
        assert dev.ready["demo_provider"] == issuer, "its port is part of its name"
        url = dev.ready["demo_url"] + "/hello"
        async with dev.vault() as app:
            dev.end_access_tokens()
            answer = await app.request("GET", url, grant_id=grant.grant_id)
            assert answer.status_code == 200, "connected once, for every start"
            second = answer.json()["headers"]["authorization"]
            assert second != first, "it was renewed"
            await app.revoke_grant(grant.grant_id)
            with pytest.raises(GrantRevokedError):
                await app.request("GET", url, grant_id=grant.grant_id)
            # grantd ends it at the provider, too, within seconds; so nobody who kept the token can go on with it.
            wait_until(lambda: http.call("GET", url, headers={"Authorization": second}).status == 401, what="revoked")
    kept = (directory / "demo-provider.json").read_bytes()
    for shown in (first, second):
        assert shown.removeprefix("Bearer ").partition(".")[2].encode() not in kept


async def test_deny_connects_nothing(binary: str, tmp_path: Path):
    with running(binary, tmp_path / "vault") as dev:
        visitor = Visitor(consents("deny"))
        page = visitor.open(dev.connect_url)
        link = visitor.to_provider(page)
        assert parse_qs(urlsplit(link).query)["code_challenge_method"] == ["S256"]
        visitor.get(visitor.consents(link))
        async with dev.vault() as app:
            assert [g for g in (await app.list_grants()).grants if getattr(g, "provider_id", None) == "demo"] == []


def test_an_account_is_left_alone_when_another_program_has_the_port(binary: str, tmp_path: Path):
    directory = tmp_path / "vault"
    with running(binary, directory) as dev:
        issuer = dev.ready["demo_provider"]
        connected(dev)
    with socket.create_server(("127.0.0.1", urlsplit(issuer).port)):
        with running(binary, directory) as dev:
            assert dev.ready["demo_provider"] != issuer
            assert dev.connect_url is None, "it would be another provider"
    with running(binary, directory) as dev:
        assert dev.ready["demo_provider"] == issuer
        connected(dev)


def test_without_accounts_the_registration_moves_with_the_port(binary: str, tmp_path: Path):
    directory = tmp_path / "vault"
    with running(binary, directory) as dev:
        issuer = dev.ready["demo_provider"]
    with socket.create_server(("127.0.0.1", urlsplit(issuer).port)):
        with running(binary, directory) as dev:
            moved = dev.ready["demo_provider"]
            assert moved != issuer
            connected(dev)
    with running(binary, directory) as dev:
        assert dev.ready["demo_provider"] == moved, "where its account knows it"
        connected(dev)
