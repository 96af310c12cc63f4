"""The command line as scripts rely on it: shapes, exit codes, errors, and the server's own start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from alter_sdk import App, BlockedDestinationError

from harness import canary, http, schema
from harness.server import Grantd, Refused
from harness.world import World, environment

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"
LIST = {"items", "total", "limit", "offset", "has_more"}


def test_init_a_second_time_changes_nothing(private_server: Callable[..., Grantd]):
    server = private_server(start=False)
    before = {p.name: p.read_bytes() for p in server.data_dir.iterdir() if p.suffix in (".key", ".pat")}
    assert before.keys() >= {"root.key", "operator.pat"}
    again = server._local("init", "--data-dir", str(server.data_dir), *server.database_flags, "--output", "json")
    assert again["organization_id"] == server.organization_id
    assert {name: (server.data_dir / name).read_bytes() for name in before} == before
    server.start()
    assert server.cli("apps", "list")["total"] == 0


def test_apps(world: World):
    made = world.server.cli("apps", "create", "--name", "From the CLI", "--description", "d")
    schema.uuid(made["id"], "id")
    assert (made["name"], made["state"]) == ("From the CLI", "active")
    listed = world.server.cli("apps", "list", "--limit", "1000")
    assert listed.keys() >= LIST and made["id"] in [a["id"] for a in listed["items"]]
    assert world.server.cli("apps", "show", made["id"])["name"] == "From the CLI"
    changed = world.server.cli("apps", "update", made["id"], "--tenant-key", "user_id", "--tenant-mode", "observe")
    assert (changed["tenant_key"], changed["tenant_mode"]) == ("user_id", "observe")


async def test_keys(world: World):
    minted = world.cli(
        "keys",
        "mint",
        "--name",
        "ci",
        "--scopes",
        "grants:read,audit:emit",
        "--expires-in",
        "90d",
        "--cidr",
        "127.0.0.0/8",
        "--rate-limit-rpm",
        "600",
    )
    assert minted["api_key"].startswith(minted["key_prefix"])
    assert sorted(minted["scopes"]) == ["audit:emit", "grants:read"]
    async with world.vault(minted["api_key"]) as app:
        assert (await app.list_grants()).total == 0
    listed = world.cli("keys", "list")
    assert listed.keys() >= LIST
    assert [k["id"] for k in listed["items"]] == [minted["id"]]
    assert "api_key" not in listed["items"][0]
    shown = world.cli("keys", "show", minted["id"])
    assert (shown["rate_limit_rpm"], shown["cidr_allowlist"]) == (600, ["127.0.0.0/8"])
    assert shown["last_used_at"] is None or schema.TIME.fullmatch(shown["last_used_at"])
    assert world.cli("keys", "revoke", minted["id"])["revoked_at"]


def test_default_scopes_of_a_key(world: World):
    minted = world.cli("keys", "mint", "--name", "default")
    expected = """tokens:retrieve proxy:execute grants:write connect:initiate idp_users:write approvals:read
        providers:read identity:resolve audit:emit spans:emit"""
    assert sorted(minted["scopes"]) == sorted(expected.split())


async def test_managed_secrets(world: World):
    value, authority = canary.token(), world.services.provider.authority
    made = world.cli(
        "managed-secrets", "create", "--name", "My Stripe", "--value", "-", "--allowed-host", authority, stdin=value
    )
    assert made["slug"] == "my-stripe"
    schema.uuid(made["grant_id"], "grant_id")
    again = world.cli(
        "managed-secrets", "create", "--name", "My Stripe", "--value", "-", "--allowed-host", authority, stdin=value
    )
    assert again["slug"] == "my-stripe-2"
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=made["grant_id"])
        assert world.corner.seen[-1].header("authorization") == f"Bearer {value}"
        rotated = canary.token()
        world.cli("managed-secrets", "rotate", "my-stripe", "--value", "-", stdin=rotated + "\n")
        await app.request("GET", world.corner.url(), grant_id=made["grant_id"])
        assert world.corner.seen[-1].header("authorization") == f"Bearer {rotated}"
    hosts = world.cli(
        "managed-secrets", "set-allowed-hosts", "my-stripe", "--host", "api.stripe.com", "--host", authority
    )
    assert hosts["allowed_hosts"] == ["api.stripe.com", authority]
    grant = world.cli(
        "managed-secrets",
        "grants",
        "create",
        "--secret",
        "my-stripe",
        "--principal-type",
        "system",
        "--label",
        "reports",
        "--expires-in",
        "30d",
    )
    schema.uuid(grant["grant_id"], "grant_id")
    grants = world.cli("managed-secrets", "grants", "list", "--secret", "my-stripe")
    assert {g["grant_id"] for g in grants["items"]} == {made["grant_id"], grant["grant_id"]}
    assert world.cli("managed-secrets", "show", "my-stripe")["id"] == made["id"]
    assert world.cli("managed-secrets", "list").keys() >= LIST


async def test_managed_secret_with_everything(world: World, tmp_path: Path):
    value, extra = canary.token(), canary.token()
    (tmp_path / "value").write_text(value)
    made = world.cli(
        "managed-secrets", "create", "--name", "Custom", "--credential-type", "header_key",
        "--value", f"@{tmp_path / 'value'}", "--field", f"app_key={extra}",
        "--header", "X-Key", "--format", "Key {token}",
        "--injection", "header:X-App:additional_credentials.app_key", "--injection", "query_param:k:token",
        "--allowed-host", world.services.provider.authority,
    )  # fmt: skip
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=made["grant_id"])
    (seen,) = world.corner.seen
    assert (seen.header("x-key"), seen.header("x-app")) == (f"Key {value}", extra)
    assert dict(seen.query)["k"] == value


def test_grants(world: World):
    secret = world.secret()
    listed = world.cli("grants", "list")
    assert listed.keys() >= LIST
    assert [g["grant_id"] for g in listed["items"]] == [secret.grant_id]
    assert world.cli("grants", "list", "--status", "revoked")["items"] == []
    assert world.cli("grants", "list", "--provider", secret.slug)["total"] == 1
    assert world.cli("grants", "update", secret.grant_id, "--label", "renamed")["label"] == "renamed"
    assert world.cli("grants", "show", secret.grant_id)["status"] == "active"
    done = world.cli("grants", "revoke", "--grant", secret.grant_id, "--reason", "over")
    assert done["grant_id"] == secret.grant_id
    schema.moment(done["revoked_at"], "revoked_at")
    assert "revoked_upstream" in done
    assert world.cli("grants", "show", secret.grant_id)["status"] == "revoked"


async def test_audit(world: World, tmp_path: Path):
    secret = world.secret()
    async with world.vault() as app:
        for user in ("u1", "u2", "u1"):
            await app.request("GET", world.corner.url(), grant_id=secret.grant_id, context={"user_id": user})
    listed = world.cli("audit", "list", "--context", "user_id=u1")
    assert listed.keys() >= {"items", "next_cursor", "has_more"}
    assert sorted(e["kind"] for e in listed["items"]) == ["call.claimed"] * 2 + ["token.released"] * 2
    page = world.cli("audit", "list", "--grant", secret.grant_id, "--limit", "2")
    assert (len(page["items"]), page["has_more"]) == (2, True)
    assert world.cli("audit", "list", "--outcome", "denied")["items"] == []
    assert world.cli("audit", "list", "--key", world.key.id)["items"]
    event = listed["items"][0]
    shown = world.cli("audit", "show", event["id"])
    assert (shown["id"], shown["hash"]) == (event["id"], event["hash"])
    export = world.export(tmp_path / "x.jsonl")
    verdict = world.server.verify(export)
    assert verdict.keys() >= {"ok", "events", "chains", "checkpoints", "problems", "trust"}
    assert verdict["ok"] and verdict["events"] == len(world.events())
    world.cli("audit", "export", "--format", "csv", "--out", str(tmp_path / "x.csv"))
    assert (tmp_path / "x.csv").read_text().count("\n") >= verdict["events"]


def test_csv_and_tables_are_escaped(world: World, tmp_path: Path):
    secret = world.secret()
    hostile = "=1+1\u202ex\x1b[31m"
    body = world.token_body(secret.grant_id)
    body["reason"] = hostile
    assert world.send(world.signed("POST", "/sdk/token", body)).status == 200
    world.cli("audit", "export", "--format", "csv", "--out", str(tmp_path / "x.csv"))
    text = (tmp_path / "x.csv").read_text()
    assert "'=1+1" in text and ",=1+1" not in text and '"=1+1' not in text
    for output in (world.cli("audit", "list", output="table"), world.cli("audit", "list", check=False)):
        assert "\x1b" not in output.stdout and "\u202e" not in output.stdout.replace("\\u202e", "")
    assert "\x1b" not in world.server.log_text() and "\u202e" not in world.server.log_text()


async def test_request(world: World):
    secret = world.secret()
    done = world.server.cli(
        "request", "POST", world.corner.url(), "--grant", secret.grant_id, "--app", world.app_id, "--json", '{"a":1}',
        "--header", "X-Extra: 1",
    )  # fmt: skip
    assert done.keys() >= {"status", "headers", "duration_ms", "event_id"}
    assert done["status"] == 200
    (seen,) = world.corner.seen
    assert (seen.method, seen.header("authorization")) == ("POST", f"Bearer {secret.value}")
    assert (seen.header("x-extra"), json.loads(seen.body)) == ("1", {"a": 1})
    assert world.cli("audit", "show", done["event_id"])["kind"] == "token.released"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["apps", "show", UNKNOWN], 4, "not_found"),
        (["keys", "revoke", UNKNOWN], 4, None),
        (["grants", "revoke", "--grant", UNKNOWN], 4, "grant_not_found"),
        (["managed-secrets", "show", "no-such"], 4, None),
        (["apps", "create"], 2, None),
        (["nonsense"], 2, None),
        (["apps", "update", UNKNOWN, "--tenant-mode", "sometimes"], 2, None),
        (["keys", "mint", "--name", "x", "--scopes", "no such scope"], 1, None),
    ],
)
def test_exit_codes_and_errors(world: World, arguments: list[str], code: int, error: str | None):
    with pytest.raises(Refused) as refused:
        world.cli(*arguments) if arguments[0] != "apps" else world.server.cli(*arguments)
    assert refused.value.code == code, refused.value
    if code != 2:
        answer = json.loads(refused.value.stderr.strip().splitlines()[-1])
        assert answer["error"] and answer["message"]
        assert error in (None, answer["error"])


def test_exit_code_of_a_wrong_token(world: World):
    for pat in ("", "grantd_pat_" + "a" * 43, "nonsense"):
        done = subprocess.run(
            [world.server.binary, "apps", "list", "--server", world.server.url, "--output", "json"],
            env={"PATH": os.environ["PATH"], "HOME": str(world.server.directory), "GRANTD_PAT": pat},
            cwd=world.server.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3, done
        assert json.loads(done.stderr.strip().splitlines()[-1])["message"]


def test_foreign_objects_are_missing(world: World):
    other = world.other_app()
    secret, key = other.secret(), other.mint()
    for arguments in (
        ("grants", "show", secret.grant_id),
        ("grants", "revoke", "--grant", secret.grant_id),
        ("managed-secrets", "show", secret.slug),
        ("managed-secrets", "show", secret.id),
        ("managed-secrets", "rotate", secret.id, "--value", "x"),
        ("keys", "show", key.id),
        ("keys", "revoke", key.id),
    ):
        with pytest.raises(Refused) as refused:
            world.cli(*arguments)
        assert refused.value.code == 4, arguments
    assert other.cli("grants", "show", secret.grant_id)["status"] == "active"


def plain_environment() -> dict[str, str]:
    """Without the variables that tell these tests what to test: the binary refuses settings that it does not know."""
    return {k: v for k, v in os.environ.items() if not k.startswith("GRANTD_")}


def failing_start(server: Grantd, *flags: str) -> str:
    """Starts a server that shall refuse to start, and gives back what it said."""
    done = subprocess.run(
        [server.binary, "serve", *flags],
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done
    assert "panicked" not in done.stderr and "listening on" not in done.stderr
    return done.stderr


def test_wrong_starts_say_what_to_do(private_server: Callable[..., Grantd], tmp_path: Path):
    server = private_server()
    here = ("--data-dir", str(server.data_dir), *server.database_flags)
    # A second process on the same data directory.
    assert str(server.data_dir) in failing_start(server, *here, "--listen", "127.0.0.1:0")
    server.stop()
    # The port is taken.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in failing_start(server, *here, "--listen", f"127.0.0.1:{port}")
    # Another root key, none, and one that others can read.
    key = server.data_dir / "root.key"
    right = key.read_bytes()
    other = private_server(start=False).data_dir / "root.key"
    shutil.copy(other, key)
    assert "root key" in failing_start(server, *here, "--listen", "127.0.0.1:0").lower()
    key.unlink()
    assert "root" in failing_start(server, *here, "--listen", "127.0.0.1:0").lower()
    assert not key.exists(), "no command makes a root key beside a database that has one"
    key.write_bytes(right)
    key.chmod(0o644)
    assert "root.key" in failing_start(server, *here, "--listen", "127.0.0.1:0")
    key.chmod(0o600)
    # Settings that do not exist or cannot be.
    config = tmp_path / "grantd.toml"
    config.write_text("no_such_setting = 1\n")
    assert "no_such_setting" in failing_start(server, "--config", str(config), *here, "--listen", "127.0.0.1:0")
    public = failing_start(server, *here, "--listen", "127.0.0.1:0", "--public-url", "http://vault.example.com")
    assert "public" in public and "https" in public
    server.restart()
    server.assert_alive()


def test_config_show_names_the_source_and_hides_secrets(private_server: Callable[..., Grantd]):
    server = private_server(start=False)
    done = subprocess.run(
        [server.binary, "config", "show", "--output", "json"],
        env={
            "PATH": os.environ["PATH"],
            "GRANTD_DATABASE_URL": f"postgres://user:{canary.MARKER}@127.0.0.1/x",
            "GRANTD_DATA_DIR": str(server.data_dir),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert canary.scan("config show", (done.stdout + done.stderr).encode()) == []
    assert "GRANTD_DATABASE_URL" in done.stdout or "environment" in done.stdout.lower()


def test_health_and_readiness(world: World):
    for path in ("/healthz", "/readyz"):
        answer = http.call("GET", world.server.url + path)
        assert answer.status == 200, path
        assert canary.MARKER not in answer.body.decode()


def test_one_log_line_per_request_without_query_or_body(private_world: World):
    world = private_world
    grant = world.secret().grant_id
    before = world.server.log_text()
    request = world.signed("POST", "/sdk/token?visible=never", world.token_body(grant))
    request.body = request.body.replace(b"null", b'"reason-in-body"')
    world.send(request.sign())
    world.server.stop()
    lines = [line for line in world.server.log_text()[len(before) :].splitlines() if "/sdk/token" in line]
    assert len(lines) == 1, lines
    assert "visible" not in world.server.log_text() and "reason-in-body" not in world.server.log_text()


async def test_dev_is_a_vault_that_works_at_once(binary: str, tmp_path: Path):
    """What a newcomer gets: an empty directory, one command, and the client runs against it."""
    process = subprocess.Popen(
        [binary, "dev", "--ephemeral", "--listen", "127.0.0.1:0", "--output", "json"],
        cwd=tmp_path,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        ready = json.loads(process.stdout.readline())
        expected = """base_url portal_url login_url app_id api_key grant_id demo_url demo_provider pat data_dir"""
        assert set(ready) == set(expected.split())
        assert ready["login_url"].startswith(ready["portal_url"] + "/sign-in?link=login_")
        with environment(ALTER_BASE_URL=ready["base_url"]):
            vault = App(api_key=ready["api_key"])
        async with vault as app:
            url = ready["demo_url"].rstrip("/") + "/v1/customers"
            answer = await app.request("GET", url, grant_id=ready["grant_id"], context={"user_id": "u1"})
            assert answer.status_code == 200
            assert (answer.json()["method"], answer.json()["path"]) == ("GET", "/v1/customers")
            with pytest.raises(BlockedDestinationError):
                await app.request("GET", "http://127.0.0.1:1/", grant_id=ready["grant_id"])
            listed = subprocess.run(
                [binary, "audit", "list", "--context", "user_id=u1", "--output", "json"],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(tmp_path),
                    "GRANTD_SERVER": ready["base_url"],
                    "GRANTD_PAT": ready["pat"],
                    "GRANTD_APP_ID": ready["app_id"],
                },
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        assert "token.released" in {e["kind"] for e in json.loads(listed.stdout)["items"]}
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert not (tmp_path / ".grantd").exists(), "--ephemeral leaves nothing behind"


def test_dev_is_for_loopback_only(binary: str, tmp_path: Path):
    done = subprocess.run(
        [binary, "dev", "--ephemeral", "--listen", "0.0.0.0:0"],
        cwd=tmp_path,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2), done
    assert "loopback" in done.stderr
