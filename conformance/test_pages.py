"""Every example of README.md and docs/, run as it stands and in the order of its page.

Shell blocks run in a shell of their page, Python with the official client, settings through `grantd config show`. What stands here
instead of a part of an example, or of all of it, is in the tables below, with its reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.server import LISTENING, wait_until
from harness.tls import Authority

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
READY_SECONDS = 60

# A block, by how it begins, that does not run here, and why.
NOT_RUN = {
    "python3 -m venv venv": "the environment of these tests has the client",
    "grantd managed-secrets test": "it calls the vendor",
    "grantd providers create acme --custom --name Acme --issuer": "it asks the issuer for its discovery document",
    "grantd audit export --app": "it takes a server down to bring it back: grantd/src/restore/tests.rs and test_recovery.py do",
    "mkdir -m 700 /tmp/drill": "a backup of the reader's: test_recovery.py restores one",
    "grantd restore --in-place --database-url": "a database of the reader's, restored with its own tools",
    "grantd idp create --preset okta": "it asks the issuer for its discovery document",
    "cargo xtask bench": "minutes, on a quiet machine",
    "cargo build --profile quick": "a load that lasts until it is stopped",
    "cargo build --release --features otlp": "a build of its own",
    "cargo xtask crash": "a step of the check",
    "cargo xtask faults": "a step of the check",
    "cargo test -p grantd-server --test sim": "part of a step of the check, and a long run",
    "cargo xtask replicas": "two steps of the check",
    "cargo xtask fuzz": "a step of the check",
    "upstream grantd {": "the configuration of nginx",
}

# Text of examples that means another place on this machine. `{name}` is filled in by the test.
ELSEWHERE = {
    "/var/lib/grantd": "{directory}/var",
    "--out /backups": "--out {directory}/backups",
    "0.0.0.0:8443": "127.0.0.1:0",
    "https://vault.example.com:8443": "{server}",
}

# Lines that go on until they are stopped: those that begin so start a server, the others are left after a second.
SERVERS = ("cargo run --release -- dev", "grantd serve ")
ENDLESS = ("grantd audit tail",)

# What a page takes for granted, by its name.
BEFORE = {
    "backup-and-recovery.md": "mkdir -p {directory}/backups; grantd init --data-dir {directory}/var > init.json",
    "oauth.md": "echo example > secret.txt",
    "secret-templates.md": "echo example > key.txt",
    "scim.md": "grantd idp create --preset okta --issuer https://company.okta.com/oauth2/default --audience a --jwks-url https://company.okta.com/keys",
    "idp-webhooks.md": "grantd idp create --preset auth0 --issuer https://tenant.eu.auth0.com/ --audience a --jwks-url https://tenant.eu.auth0.com/keys",
    "audit.md": "grantd audit export --out audit.jsonl; grantd audit export --out next-month.jsonl",
    "operations.md": "grantd init --data-dir {directory}/var > init.json",
    "portal.md": "grantd init --data-dir {directory}/var > init.json",
}

# The reader's own values and files.
MINE = {"MY_API_KEY": "example-one", "NEW_API_KEY": "example-two"}
MY_ENV_FILE = "STRIPE_API_KEY=example\nLOG_LEVEL=debug\n"


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.splitlines()[0]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    found = [Block(path.name, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in FENCE.finditer(text)]
    assert len(found) * 2 == len(re.findall(r"^```", text, re.MULTILINE)), f"{path.name}: a fence is not closed"
    return found


@dataclass
class Shell:
    """What a reader types into: a directory, and an environment that lasts from block to block."""

    directory: Path
    environment: dict[str, str]
    servers: list[Server] = field(default_factory=list)
    server: str = "https://localhost:8443"

    def text(self, text: str) -> str:
        for there, here in ELSEWHERE.items():
            text = text.replace(there, here.format(directory=self.directory, server=self.server))
        return text

    def run(self, text: str, what: object) -> None:
        """Line after line; the first that fails, fails the test. One that says how it fails, must."""
        text = re.sub(r"^(\S.*?)\s+# (\w+Error)$", r"fails \2 \1", self.text(text), flags=re.MULTILINE)
        for line in ENDLESS:
            text = re.sub(rf"^({line}.*?)(\s+#.*)?$", r"lasts \1", text, flags=re.MULTILINE)
        kept = self.directory / "environment"
        script = f"""
            set -euo pipefail
            trap 'code=$?; env -0 > "{kept}"; exit $code' EXIT
            fails() {{ local name=$1; shift; if "$@" 2> failed.txt; then false; else grep -q "$name" failed.txt; fi; }}
            lasts() {{ timeout 1 "$@" || [ $? = 124 ]; }}
        """
        done = self._bash(script + "\n" + text)
        assert done.returncode == 0, f"{what}: exit {done.returncode}\n{text}\n{done.stdout}\n{done.stderr}"
        pairs = (pair.split("=", 1) for pair in kept.read_text().split("\0") if pair)
        self.environment = dict(pairs)

    def _bash(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, command: str, what: object) -> Server:
        """A line that serves, until the test ends."""
        self.servers.append(Server(self, self.text(command), what))
        return self.servers[-1]

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


class Server:
    """A server that an example starts."""

    def __init__(self, shell: Shell, command: str, what: object) -> None:
        self.log = shell.directory / f"server-{len(shell.servers)}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=shell.directory,
                env=shell.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ready = lambda: self.process.poll() is not None or LISTENING.search(self.said()) or self.told()  # noqa: E731
        wait_until(ready, READY_SECONDS, f"{what}: {command}")
        assert self.process.poll() is None, f"{what}: {command}\n{self.said().decode()}"

    def said(self) -> bytes:
        return self.log.read_bytes()

    def told(self) -> dict[str, str] | None:
        """What `dev` says in one line of JSON once it is ready."""
        lines = [line for line in self.said().splitlines(keepends=True) if line.startswith(b'{"base_url"')]
        return json.loads(lines[0]) if lines and lines[0].endswith(b"\n") else None

    @property
    def url(self) -> str:
        scheme, authority = LISTENING.search(self.said()).groups()
        return f"{scheme.decode()}://{authority.decode().replace('127.0.0.1', 'localhost')}"

    def exports(self) -> dict[str, str]:
        """The lines that `dev` prints to paste."""
        pasted = re.findall(r"^ *export (\w+)=(\S+)$", self.said().decode(), re.MULTILINE)
        assert pasted, self.said().decode()
        return dict(pasted)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
        assert code == 0, self.said().decode()


@pytest.fixture
def shell(binary: str, authority: Authority, tmp_path: Path) -> Iterator[object]:
    """Makes a shell with the program, and what stands in for cargo and for the installed client."""
    made: list[Shell] = []

    def make(name: str) -> Shell:
        directory = tmp_path / name
        programs = directory / "target/release"
        programs.mkdir(parents=True)
        (programs / "grantd").symlink_to(binary)
        (directory / "venv").symlink_to(sys.prefix)
        bin_ = directory / "bin"
        bin_.mkdir()
        (bin_ / "cargo").write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "run --release --" ] || exit 1\nshift 3\nexec "{binary}" "$@"\n')
        (bin_ / "cargo").chmod(0o755)
        (directory / ".env").write_text(MY_ENV_FILE)
        certificate = authority.issue(f"pages-{len(made)}", dns=("localhost",))
        shutil.copy(certificate.cert, directory / "cert.pem")
        shutil.copy(certificate.key, directory / "key.pem")
        environment = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "HOME": str(directory),
            "SSL_CERT_FILE": str(authority.file),
            # In the place of the port that everybody uses, and of the release build.
            "GRANTD_LISTEN": "127.0.0.1:0",
            "PYTHONDONTWRITEBYTECODE": "1",
            **MINE,
        }
        made.append(Shell(directory, environment))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def is_run(block: Block) -> bool:
    return not block.text.startswith(tuple(NOT_RUN))


def test_every_block_is_of_a_language_that_is_run():
    every = [block for page in PAGES for block in blocks(page)]
    known = {"sh", "python", "toml", "json", "nginx", ""}
    assert {block.language for block in every} <= known, [str(b) for b in every if b.language not in known]
    hidden = [str(block) for block in every if not block.language and re.search(r"^(\$ )?grantd ", block.text, re.MULTILINE)]
    assert not hidden, f"command lines belong into a block of `sh`, where they are run: {hidden}"
    stale = [start for start in NOT_RUN if not any(block.text.startswith(start) for block in every)]
    assert not stale, f"no page has these any more: {stale}"
    assert sum(block.language == "sh" and is_run(block) for block in every) >= 12, "are the pages where they were?"


def test_readme(shell):
    """From the first command to a server of one's own."""
    here = shell("readme")
    dev = None
    for block in filter(is_run, blocks(ROOT / "README.md")):
        names = re.findall(r"^export (\w+)=\S*…", block.text, re.MULTILINE)
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)[1]
            (here.directory / name).write_text(block.text)
        elif block.language != "sh":
            # What commands print: the titles of the table are those of the real one.
            assert block.first.split() == "TIME KIND OUTCOME CODE PROVIDER HOST METHOD CALLER EVENT".split()
        elif block.text.startswith(SERVERS):
            dev = here.start(block.text, block)
        elif names:
            pasted = dev.exports()
            # Printed where the port is not the usual one, as here.
            assert set(re.findall(r"^export (\w+)=", block.text, re.MULTILINE)) == pasted.keys() - {"GRANTD_SERVER"}
            here.environment |= pasted
        elif "\ngrantd serve " in block.text:
            # "For a server of your own": another host, and so another shell.
            here = shell("server")
            here.environment["PATH"] = f"{here.directory}/target/release:{here.environment['PATH']}"
            before, serve = block.text.split("\ngrantd serve ")
            here.run(before, block)
            here.server = here.start("grantd serve " + serve, block).url
            shutil.copy(here.directory / "var/operator.pat", here.directory)
        else:
            here.run(block.text, block)


@pytest.fixture
def dev(shell, request: pytest.FixtureRequest) -> Shell:
    """A shell as it is after the README's first two steps."""
    here = shell("docs")
    here.environment["PATH"] = f"{here.directory}/target/release:{here.environment['PATH']}"
    here.environment |= here.start("grantd dev", "the server of the pages").exports()
    return here


def test_shell_examples_of_the_other_pages(dev: Shell):
    for page in PAGES[1:]:
        found = [block for block in blocks(page) if block.language == "sh" and is_run(block)]
        if found and page.name in BEFORE:
            dev.run(BEFORE[page.name].format(directory=dev.directory), f"before {page.name}")
        for block in found:
            dev.run(block.text, block)


def test_json_of_dev(dev: Shell):
    """The one line that `dev` prints for programs has these fields."""
    (shown,) = [json.loads(b.text) for page in PAGES for b in blocks(page) if b.language == "json"]
    told = dev.servers[0].told()
    assert told.keys() == shown.keys()
    assert {name for name, value in told.items() if value is None} == {n for n, v in shown.items() if v is None}


def test_files_of_settings_and_templates(binary: str, tmp_path: Path):
    """Every file of settings is one that the server takes; every template is the one that it has."""
    found = [b for page in PAGES for b in blocks(page) if b.language == "toml"]
    templates = [b for b in found if "credential_type" in b.text]
    for block in templates:
        shown = tomllib.loads(block.text)
        kept = tomllib.loads((ROOT / f"providers/secrets/{shown['id']}.toml").read_text())
        assert shown == kept, block
    settings = [b for b in found if b not in templates]
    for block in settings:
        path = tmp_path / "grantd.toml"
        path.write_text(block.text)
        command = [binary, "config", "show", "--config", str(path), "--output", "json"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{block}: {done.stderr}"
        taken = json.loads(done.stdout)
        for name in flat(tomllib.loads(block.text)):
            assert taken[name]["source"] != "default", (block, name)
    assert templates and settings


def flat(table: dict, before: str = "") -> dict[str, object]:
    """`outbound.allow` of nested tables."""
    pairs: dict[str, object] = {}
    for name, value in table.items():
        pairs |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return pairs
