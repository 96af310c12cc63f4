"""Backup while serving, restore with what was revoked since, another root key: the real binary, real files."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import pytest
from harness.server import Refused
from harness.world import World


def local(world: World, *arguments: str) -> dict:
    server = world.server
    return server._local(*arguments, "--data-dir", str(server.data_dir), *server.database_flags, "--output", "json")


def test_a_restored_backup_does_not_bring_back_what_was_revoked(private_world: World, tmp_path: Path):
    world, server = private_world, private_world.server
    secret, key = world.secret(), world.mint()
    assert world.key.id != key.id, "its own key is in the backup, too"
    revoked = world.grant(secret)
    rotated = world.secret()
    if server.engine == "postgres":
        with pytest.raises(Refused) as refused:
            local(world, "backup", "--out", str(tmp_path))
        assert refused.value.error == "feature_unavailable" and "pg_dump" in refused.value.stderr
        return
    backup = local(world, "backup", "--out", str(tmp_path))
    assert backup.keys() >= {"path", "bytes", "events", "at"}
    world.revoke(revoked)
    world.cli("keys", "revoke", key.id)
    world.cli("managed-secrets", "rotate", rotated.id, "--value", "a-new-value")
    assert world.send(world.token_request(secret.grant_id)).status == 200
    export = world.export(tmp_path / "export.jsonl")
    server.stop()

    shutil.move(server.data_dir, tmp_path / "lost")
    server.data_dir.mkdir(mode=0o700)
    shutil.copy2(tmp_path / "lost" / "root.key", server.data_dir)
    with pytest.raises(Refused) as refused:
        local(world, "restore", backup["path"])
    assert refused.value.error == "lost_revocations"
    done = local(world, "restore", backup["path"], "--replay", str(export))
    assert done.keys() >= {"events", "gap_seconds", "replayed"} and done["replayed"] == 3
    server._pat = (server.data_dir / "operator.pat").read_text().strip()
    server.restart()
    assert world.send(world.token_request(secret.grant_id)).status == 200
    assert world.send(world.token_request(revoked)).error == "grant_revoked"
    assert world.send(world.token_request(secret.grant_id, key=key)).error == "key_revoked"
    assert world.send(world.token_request(rotated.grant_id)).error == "credential_revoked"
    found = json.loads(json.dumps(local(world, "doctor", "--quick")))
    assert found["ok"], found
    verdict = server.verify(world.export(tmp_path / "after.jsonl"))
    assert verdict["ok"], verdict


def test_another_root_key_while_serving(private_world: World, tmp_path: Path):
    world, server = private_world, private_world.server
    secret = world.secret()
    new = tmp_path / "new.key"
    new.write_text(secrets.token_hex(32))
    os.chmod(new, 0o600)
    to = f"file:{new}"
    # The server that runs does not have it.
    with pytest.raises(Refused) as refused:
        local(world, "rotate-root-key", "--to", to)
    assert refused.value.code == 5 and "root_key_also" in refused.value.stderr
    server.stop()
    server.flags = ("--root-key-also", to)
    server.restart()
    assert local(world, "rotate-root-key", "--to", to) | {"root_key_id": ""} == {
        "rewrapped": 2,
        "remaining": 0,
        "root_key_id": "",
    }
    assert world.send(world.token_request(secret.grant_id)).status == 200
    server.kill()
    server.flags = ("--root-key", to)
    server.restart()
    assert world.send(world.token_request(secret.grant_id)).status == 200
