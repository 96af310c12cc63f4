"""`grantd import kv` from a real OpenBao or Vault, where one is on PATH. Its dev mode has an engine of version 2 at `secret/`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import canary, http
from harness.server import wait_until
from harness.world import World

READY_SECONDS = 30
ROOT = "root-of-this-test"
READS_ONLY = 'path "secret/data/*" { capabilities = ["read"] }'
READS_AND_LISTS = f'{READS_ONLY}\npath "secret/metadata/*" {{ capabilities = ["read", "list"] }}'


class Kv:
    """A server of its own, in memory."""

    def __init__(self, program: str, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            authority = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{authority}"
        command = [program, "server", "-dev", f"-dev-root-token-id={ROOT}", f"-dev-listen-address={authority}"]
        # It writes its token into the home directory.
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
        self.log = directory / "kv.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory
            )

    def wait(self) -> None:
        wait_until(self.is_ready, READY_SECONDS, "the KV server is ready")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8", "replace")
        try:
            # Unsealed, and the engine is one of version 2 by now.
            return all(self.send("GET", path).status == 200 for path in ("sys/health", "secret/config"))
        except OSError:
            return False

    def send(self, method: str, path: str, body: dict | None = None) -> http.Answer:
        data = None if body is None else json.dumps(body).encode()
        return http.call(method, f"{self.url}/v1/{path}", headers={"X-Vault-Token": ROOT}, body=data)

    def call(self, method: str, path: str, body: dict | None = None) -> http.Answer:
        answer = self.send(method, path, body)
        assert answer.status in (200, 204), (method, path, answer)
        return answer

    def put(self, path: str, data: dict[str, str], metadata: dict[str, str] | None = None) -> None:
        self.call("POST", f"secret/data/{path}", {"data": data})
        if metadata:
            self.call("POST", f"secret/metadata/{path}", {"custom_metadata": metadata})

    def token(self, name: str, policy: str) -> str:
        """A file with a token that may do what the policy says and nothing else."""
        self.call("POST", f"sys/policies/acl/{name}", {"policy": policy})
        made = self.call("POST", "auth/token/create", {"policies": [name], "no_default_policy": True, "ttl": "1h"})
        path = self.directory / f"{name}.token"
        path.write_text(made.json()["auth"]["client_token"])
        path.chmod(0o600)
        return str(path)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()


@pytest.fixture
def kv(tmp_path: Path) -> Iterator[Kv]:
    program = shutil.which("bao") or shutil.which("vault")
    if program is None:
        pytest.skip("neither bao nor vault is on PATH: no real KV engine was imported from")
    kv = Kv(program, tmp_path)
    try:
        kv.wait()
        yield kv
    finally:
        kv.stop()


def outcomes(answer: dict) -> dict[str, str]:
    return {item["from"]: item["outcome"] for item in answer["items"]}


@pytest.mark.one_engine
async def test_kv_of_a_real_openbao(world: World, kv: Kv):
    """Nested paths, a deleted secret and custom metadata; then again, and with a token that may not list."""
    value, password, authority = canary.token(), canary.password(), world.services.provider.authority
    kv.put("apps/mail", {"username": "shop", "password": password}, {"allowed_hosts": "mail.example.com"})
    kv.put("apps/deep/er/acme", {"api_key": canary.token(), "region": "eu"})
    kv.put("apps/deep/er/acme", {"api_key": value, "region": "eu"}, {"allowed_hosts": authority})
    kv.put("apps/pay", {"token": canary.token()}, {"template": "stripe"})
    kv.put("apps/gone", {"token": canary.token()}, {"template": "stripe"})
    kv.call("DELETE", "secret/data/apps/gone")
    kv.put("elsewhere", {"token": canary.token()})
    reads = ("--kv-token-file", kv.token("reads-and-lists", READS_AND_LISTS))
    command = ("import", "kv", "--address", kv.url, "--path", "apps")
    paths = ["apps/deep/er/acme", "apps/mail", "apps/pay"]

    planned = world.cli(*command, *reads, "--dry-run")
    assert outcomes(planned) == dict.fromkeys(paths, "would_create")
    assert world.cli("managed-secrets", "list")["total"] == 0
    made = world.cli(*command, *reads, "--yes")
    assert outcomes(made) == dict.fromkeys(paths, "created")
    fields = ("from", "name", "slug", "template", "credential_type", "allowed_hosts")
    assert [[item[f] for f in fields] for item in made["items"]] == [
        [item[f] for f in fields] for item in planned["items"]
    ], "the dry run said what would be made"
    kinds = {item["from"]: item["credential_type"] for item in made["items"]}
    assert (kinds["apps/mail"], kinds["apps/pay"]) == ("basic_auth", "bearer_token")

    (grant,) = [item["grant_id"] for item in made["items"] if item["from"] == "apps/deep/er/acme"]
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=grant)
    assert world.corner.seen[-1].header("authorization") == f"Bearer {value}", "the newest version"

    again = world.cli(*command, *reads, "--yes")
    assert outcomes(again) == dict.fromkeys(paths, "exists")
    assert world.cli("managed-secrets", "list")["total"] == len(paths)

    lists_not = ("--kv-token-file", kv.token("reads-only", READS_ONLY))
    refused = world.cli(*command, *lists_not, "--dry-run", check=False)
    assert refused.returncode == 7, refused.stderr
    assert json.loads(refused.stderr.splitlines()[-1])["error"] == "kv_forbidden"
    assert value not in refused.stdout + refused.stderr
