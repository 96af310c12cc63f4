"""The harness itself: what it records and what it judges, shown without the server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import struct
import urllib.request
import zlib
from collections.abc import Iterator
from importlib import metadata

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import canary, http, palette
from harness.aws import Account
from harness.tap import Tap
from harness.world import Services
from signing import invent_key


@pytest.fixture
def tap(services: Services) -> Iterator[Tap]:
    """A tap in front of the provider."""
    tap = Tap(services.provider.url)
    yield tap
    tap.close()


def test_provider_behaves_as_the_path_asks(services: Services):
    corner = services.provider.corner()

    def get(behaviour: str, rest: str = "") -> http.Answer:
        return http.call("GET", corner.url(behaviour, rest), headers={"X-A": "b"})

    assert get("echo", "/x?y=z").json()["headers"]["x-a"] == "b"
    assert get("status", "/500").status == 500
    assert get("challenge", "/403").header("WWW-Authenticate").startswith("Bearer ")
    assert get("redirect").status == 302
    assert [s.query for s in corner.seen] == [[("y", "z")], [], [], []]
    assert services.provider.corner().seen == []


def test_tls_provider_is_trusted_by_the_private_authority_alone(services: Services):
    url = services.tls_provider.corner().url()
    context = ssl.create_default_context(cafile=str(services.authority_file))
    with urllib.request.urlopen(url, context=context, timeout=20) as answer:
        assert answer.status == 200
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=20)


def test_tap_records_by_key_and_edits_in_flight(services: Services, tap: Tap):
    corner, key, other = services.provider.corner(), invent_key(), invent_key()
    path = corner.url().removeprefix(services.provider.url)
    tap.edit[key] = lambda request: request.replace(b"before", b"beyond")

    def ask(api_key: str) -> bytes:
        return (f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api_key}\r\nContent-Length: 6\r\n\r\nbefore").encode()

    with http.connect(tap.url) as sock:
        for api_key in (key, other, key):
            sock.sendall(ask(api_key))
            http.read_answer(sock, "POST")
    assert [s.body for s in corner.seen] == [b"beyond", b"before", b"beyond"]
    assert [e.body for e in tap.exchanges(key)] == [b"before", b"before"]
    assert [e.answer.json()["body"] for e in tap.exchanges(other)] == ["before"]


async def test_aws_accepts_botos_own_signatures_and_nothing_else(services: Services):
    access_key = canary.access_key_id()
    services.aws.accounts[access_key] = Account("right", "session")

    def client(service: str, secret: str, session: str | None = "session") -> object:
        return boto3.client(
            service,
            region_name="eu-west-1",
            endpoint_url=services.aws.url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            aws_session_token=session,
            config=Config(retries={"max_attempts": 0, "mode": "standard"}),
        )

    assert await asyncio.to_thread(client("s3", "right").list_buckets)
    # For STS boto leaves out the payload hash header, which the client under test always sends.
    with pytest.raises(ClientError):
        await asyncio.to_thread(client("sts", "right").get_caller_identity)
    for bad in (client("s3", "wrong"), client("s3", "right", "other"), client("s3", "right", None)):
        with pytest.raises(ClientError):
            await asyncio.to_thread(bad.list_buckets)
    assert [c.verdict for c in services.aws.calls(access_key)] == [
        "ok",
        "payload hash is not that of the body",
        "signature mismatch",
        "wrong session token",
        "wrong session token",
    ]


def test_the_client_is_the_published_one():
    """Every installed file of it has the hash that the package recorded."""
    recorded = [file for file in metadata.distribution("alter-sdk").files if file.hash]
    assert len(recorded) > 20
    for file in recorded:
        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file


@pytest.mark.parametrize("filter_kind", range(5))
def test_a_picture_of_few_colours_stays_the_picture_it_was(filter_kind: int):
    random = hashlib.sha256(b"picture").digest()
    rows = [bytes(random[(x + y) % 7 % 5] for x in range(3 * 4)) for y in range(6)]
    shown = palette._pixels(palette.squeeze(_png(rows, filter_kind)))
    assert shown == (4, 6, rows)


def _png(rows: list[bytes], kind: int) -> bytes:
    """A screenshot with lines in one of the five forms that the format has for them."""
    above, data = bytes(len(rows[0])), b""
    for row in rows:
        # What `_unfilter` adds to zeros is what this takes away: byte by byte, from the left.
        line = bytearray()
        for at, value in enumerate(row):
            guess = bytearray(row[:at] + b"\0" + bytes(len(row) - at - 1))
            palette._unfilter_at(kind, guess, above, 3, at)
            line.append(value - guess[at] & 255)
        data, above = data + bytes([kind]) + bytes(line), row
    head = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return palette.SIGNATURE + b"".join(map(palette._chunk, parts))
