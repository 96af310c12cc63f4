"""The real binary: `init`, `serve`, the command line, restart and kill."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

from harness import http
from harness.postgres import Database

READY_SECONDS = 60
LISTENING = re.compile(rb"listening on (https?)://(\S+)")


class Refused(Exception):
    """A command that ended with a code other than 0."""

    def __init__(self, command: list[str], code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"grantd {' '.join(command)}: exit {code}\n{stdout}\n{stderr}")
        self.code, self.stdout, self.stderr = code, stdout, stderr

    @property
    def error(self) -> str | None:
        """The code of the JSON error on stderr."""
        for line in reversed(self.stderr.strip().splitlines()):
            try:
                return json.loads(line).get("error")
            except (ValueError, AttributeError):
                continue
        return None


class Grantd:
    def __init__(
        self,
        binary: str,
        directory: Path,
        *,
        database: Database | None = None,
        env: dict[str, str] | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.binary = binary
        self.engine = "postgres" if database else "sqlite"
        self.database = database
        self.directory = directory
        self.data_dir = directory / "data"
        self.log = directory / "server.log"
        self.flags = flags
        self.url = ""
        self.authority: Path | None = None  # whom to trust when it speaks TLS, for the name `localhost`
        self.process: subprocess.Popen[bytes] | None = None
        base = {k: v for k, v in os.environ.items() if not k.startswith(("GRANTD_", "ALTER_", "SSL_CERT"))}
        self._client_env = {**base, "HOME": str(directory), "GRANTD_DATA_DIR": str(directory / "nowhere")}
        self._server_env = {**base, "GRANTD_LOG": "debug", "RUST_BACKTRACE": "1", **(env or {})}
        self._lock = threading.Lock()
        self._pat = ""
        self.organization_id = ""
        self.database_flags = ("--database-url", database.url) if database else ()

    def init(self) -> dict:
        done = self._local("init", "--data-dir", str(self.data_dir), *self.database_flags, "--output", "json")
        self._pat = done["pat"]
        self.organization_id = done["organization_id"]
        return done

    def replica(self, directory: Path, env: dict[str, str]) -> Grantd:
        """Another process for this install: the same database and root key, and a data directory of its own."""
        key = {"GRANTD_ROOT_KEY": f"file:{self.data_dir / 'root.key'}"}
        other = Grantd(self.binary, directory, database=self.database, env={**env, **key})
        other._pat, other.organization_id = self._pat, self.organization_id
        other.database = None  # It is this one's to look through and to drop.
        return other

    def _local(self, *arguments: str) -> dict:
        done = subprocess.run(
            [self.binary, *arguments], env=self._server_env, capture_output=True, text=True, timeout=120, check=False
        )
        self._append_log(done.stderr.encode())
        if done.returncode:
            raise Refused(list(arguments), done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    @property
    def pat(self) -> str:
        return self._pat

    def start(self, listen: str = "127.0.0.1:0") -> Grantd:
        command = [self.binary, "serve", "--data-dir", str(self.data_dir), "--listen", listen]
        command += [*self.database_flags, *self.flags]
        self.process = subprocess.Popen(
            command,
            env=self._server_env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_ignore_file_size_signal,
        )
        ready: queue.Queue[bytes | None] = queue.Queue()
        self._drains = [
            threading.Thread(target=self._drain, args=(stream, ready), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for drain in self._drains:
            drain.start()
        try:
            line = ready.get(timeout=READY_SECONDS)
        except queue.Empty:
            line = None
        if line is None:
            self.kill()
            raise AssertionError(f"grantd serve did not get ready; its log:\n{self.log_text()[-4000:]}")
        scheme, authority = LISTENING.search(line).groups()
        host = authority.decode().replace("127.0.0.1", "localhost") if self.authority else authority.decode()
        self.url = f"{scheme.decode()}://{host}"
        return self

    def _drain(self, stream: object, ready: queue.Queue[bytes | None]) -> None:
        for line in stream:
            self._append_log(line)
            if LISTENING.search(line):
                ready.put(line)
        ready.put(None)

    def _append_log(self, data: bytes) -> None:
        with self._lock, self.log.open("ab") as log:
            log.write(data)

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    @property
    def port(self) -> int:
        return http.address(self.url)[1]

    def stop(self) -> int:
        """SIGTERM, drain, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._reap(60)

    def kill(self) -> None:
        """SIGKILL: nothing gets a chance to tidy up."""
        self.process.kill()
        self._reap(30)

    def _reap(self, seconds: float) -> int:
        code = self.process.wait(timeout=seconds)
        for drain in self._drains:
            drain.join(10)
        return code

    def restart(self) -> Grantd:
        """Starts again on the same port, so that clients and taps need not know."""
        return self.start(f"127.0.0.1:{self.port}")

    def limit_files(self, size: int | None) -> None:
        """No file of the process may grow beyond `size` bytes, which is what a full disk looks like; None lifts it."""
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (unlimited if size is None else size, unlimited))

    def sql(self, statement: str) -> None:
        """Changes the database behind the server's back: what only time would bring about."""
        if self.database:
            self.database.run(statement)
            return
        with contextlib.closing(sqlite3.connect(self.data_dir / "grantd.db", timeout=30)) as connection, connection:
            assert connection.execute(statement).rowcount > 0, statement

    def cli(self, *arguments: str, stdin: str | None = None, output: str = "json", check: bool = True) -> object:
        """One command against the running server; the parsed JSON of its answer."""
        command = [*arguments, "--server", self.url, "--output", output]
        done = subprocess.run(
            [self.binary, *command],
            env={**self._client_env, "GRANTD_PAT": self._pat},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode and check:
            raise Refused(command, done.returncode, done.stdout, done.stderr)
        if output != "json" or not check:
            return done
        return json.loads(done.stdout) if done.stdout.strip() else None

    def verify(self, export: Path, *flags: str) -> dict:
        """`grantd audit verify`, offline: neither server nor token is given to it."""
        done = subprocess.run(
            [self.binary, "audit", "verify", str(export), *flags, "--output", "json"],
            env=self._client_env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr
        answer = json.loads(done.stdout)
        assert answer["ok"] == (done.returncode == 0), answer
        return answer

    def assert_alive(self) -> None:
        assert self.process.poll() is None, f"the server ended:\n{self.log_text()[-3000:]}"
        assert http.call("GET", f"{self.url}/healthz", authority=self.authority).status == 200


def _ignore_file_size_signal() -> None:
    """Writes beyond a file size limit shall fail with an error, as on a full disk, instead of ending the process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def wait_until(condition: object, seconds: float = 15, what: str = "") -> object:
    """Polls for something that only the passing of time brings about, with a bound."""
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
