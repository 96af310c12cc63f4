"""Fresh databases on the PostgreSQL server that the admin URL names, through its own command line tools."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit


def _tool(name: str) -> str:
    """On the PATH, or where Debian keeps it: the newest version wins."""
    found = [str(p) for p in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    newest = max(found, key=lambda p: int(p.split("/")[4]), default=None)
    return newest or shutil.which(name) or name


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr.decode()}"
    return done.stdout


class Database:
    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self.name = f"grantd_conformance_{os.getpid()}_{secrets.token_hex(4)}"
        parts = urlsplit(admin_url)
        self.url = urlunsplit((parts.scheme, parts.netloc, f"/{self.name}", parts.query, ""))
        self.admin(f"CREATE DATABASE {self.name}")

    def admin(self, sql: str) -> None:
        _run(_tool("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.admin_url, "-c", sql)

    def refuse_connections(self) -> None:
        """The outage of a test: nobody gets in, and whoever is in is thrown out."""
        self.admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def allow_connections(self) -> None:
        self.admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def run(self, sql: str) -> None:
        """In this database, behind the server's back: what only time would bring about."""
        _run(_tool("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c", sql)

    def dump(self) -> bytes:
        return _run(_tool("pg_dump"), "-d", self.url)

    def drop(self) -> None:
        self.admin(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
