"""Replay, tampering and bad input over a plain socket. After each test the server still answers (`world` checks it)."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time

import pytest

from harness import http, schema
from harness.http import Answer
from harness.world import World
from signing import Request, invent_key

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


async def captured(world: World, **options: object) -> tuple[str, bytes]:
    """The bytes of a token request that the unmodified client sent, withheld from the server, and its grant."""
    secret = world.secret()
    held: list[bytes] = []

    def hold(request: bytes) -> bytes:
        if b"/sdk/token" in request[:40]:
            held.append(request)
            return b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        return request

    key = world.key
    world.tap.edit[key.api_key] = hold
    async with world.vault(**{k: v for k, v in options.items() if k == "caller"}) as app:
        if options.get("warm"):
            await app.list_grants()
        try:
            await app.request(
                "GET",
                world.corner.url(),
                grant_id=secret.grant_id,
                **{k: v for k, v in options.items() if k == "context"},
            )
        except Exception:  # noqa: BLE001 - the client was answered with something that is no token
            pass
    world.forget(key)
    assert len(held) == 1
    return secret.grant_id, held[0]


def drop_header(request: bytes, *names: str) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    gone = tuple(n.lower().encode() + b":" for n in names)
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(gone)]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


def add_header(request: bytes, name: str, value: str) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    return head + f"\r\n{name}: {value}".encode() + b"\r\n\r\n" + body


def set_header(request: bytes, name: str, value: str) -> bytes:
    return add_header(drop_header(request, name), name, value)


def value_of(request: bytes, name: str) -> str:
    for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.lower().startswith(name.lower().encode() + b":"):
            return line.split(b":", 1)[1].strip().decode()
    raise AssertionError(f"no {name}")


def refused(answer: Answer, *codes: str) -> None:
    assert answer.status == 401, answer
    assert answer.error in codes, answer
    assert b"access_token" not in answer.body
    schema.error(answer.status, answer.json())


async def test_core_22_untouched_copy_is_accepted_once(world: World):
    grant, request = await captured(world)
    first = world.send(request)
    assert (first.status, first.json()["grant_id"]) == (200, grant)
    schema.answer("POST", "/sdk/token", first)
    for _ in range(3):
        refused(world.send(request), "nonce_replayed")
    assert len(world.events(kind="token.released")) == 1


async def test_core_22_nonce_is_not_spent_by_a_request_that_does_not_verify(world: World):
    """Else anyone who sees a nonce could keep its owner from using it."""
    _, request = await captured(world)
    signature = value_of(request, "X-Alter-Signature")
    forged = ("0" if signature[0] != "0" else "1") + signature[1:]
    refused(world.send(set_header(request, "X-Alter-Signature", forged)), "signature_invalid")
    assert world.send(request).status == 200


async def test_core_22_same_nonce_on_another_request(world: World):
    grant, request = await captured(world)
    assert world.send(request).status == 200
    nonce = value_of(request, "X-Alter-Nonce")
    for other in (
        world.token_request(grant, nonce=nonce),
        world.signed("POST", "/sdk/grants/list", {}, nonce=nonce),
        world.signed("GET", "/sdk/scopes", nonce=nonce),
    ):
        refused(world.send(other), "nonce_replayed")
    # Another key may use it: nonces are kept per key.
    assert world.send(world.token_request(grant, nonce=nonce, key=world.mint())).status == 200


def test_core_22_replay_of_calls_that_only_read(world: World):
    for request in (world.signed("POST", "/sdk/grants/list", {}), world.signed("GET", "/sdk/scopes")):
        assert world.send(request).status == 200
        refused(world.send(request), "nonce_replayed")


def test_core_22_replay_of_calls_that_change_something(world: World):
    secret = world.secret()
    grant = world.grant(secret)
    report = {"grant_id": grant, "method": "GET", "url": "https://x.example/", "response_status": 200}
    for request in (
        world.signed("POST", f"/sdk/managed-secrets/{secret.id}/grants", {"principal": {"type": "system"}}),
        world.signed("POST", "/sdk/oauth/audit/api-call", report),
        world.signed("POST", f"/sdk/oauth/grants/{grant}/revoke", {}),
    ):
        assert world.send(request).status < 300
        refused(world.send(request), "nonce_replayed")
    assert len(world.events(kind="call.claimed")) == 1
    assert len(world.events(kind="grant.revoked")) == 1


def test_core_22_sixty_four_copies_at_once(world: World):
    """Exactly one of them is answered with the credential."""
    from concurrent.futures import ThreadPoolExecutor

    request = world.token_request(world.secret().grant_id)
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: world.send(request), range(64)))
    assert sorted({a.status for a in answers}) == [200, 401]
    assert sum(a.status == 200 for a in answers) == 1
    assert {a.error for a in answers if a.status == 401} == {"nonce_replayed"}
    assert len(world.events(kind="token.released")) == 1


async def test_core_24_changed_body(world: World):
    other = world.secret().grant_id
    grant, request = await captured(world)
    refused(world.send(request.replace(grant.encode(), other.encode())), "content_hash_mismatch")
    body = request.partition(b"\r\n\r\n")[2].replace(grant.encode(), other.encode())
    rehashed = set_header(request.replace(grant.encode(), other.encode()), "X-Alter-Content-SHA256", _sha256(body))
    refused(world.send(rehashed), "signature_invalid")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def test_core_24_changed_path_method_and_query(world: World):
    _, request = await captured(world)
    changes = {
        "path": request.replace(b" /sdk/token ", b" /sdk/grants/list ", 1),
        "query": request.replace(b" /sdk/token ", b" /sdk/token?x=1 ", 1),
        "method": request.replace(b"POST ", b"PUT ", 1),
        "case": request.replace(b" /sdk/token ", b" /sdk/Token ", 1),
    }
    assert world.send(changes["path"]).error == "signature_invalid"
    assert world.send(changes["query"]).error == "signature_invalid"
    assert world.send(changes["method"]).status in (401, 405)
    assert world.send(changes["case"]).status in (401, 501)
    assert world.events(kind="token.released") == []


async def test_core_24_removed_identity_headers(world: World):
    _, request = await captured(world, caller="agent-7", context={"run_id": "r"}, warm=True)
    for names in (
        ["X-Alter-Caller"],
        ["X-Alter-Caller-Type"],
        ["X-Alter-Caller", "X-Alter-Caller-Type"],
        ["X-Alter-Actor-ID"],
        ["X-Alter-Context"],
        ["X-Alter-Signature-V2"],
        ["X-Alter-Caller", "X-Alter-Caller-Type", "X-Alter-Signature-V2"],
        ["X-Alter-Caller", "X-Alter-Caller-Type", "X-Alter-Actor-ID", "X-Alter-Context"],
        ["X-Alter-Caller", "X-Alter-Caller-Type", "X-Alter-Actor-ID", "X-Alter-Context", "X-Alter-Signature-V2"],
    ):
        refused(world.send(drop_header(request, *names)), "signature_invalid")
    assert world.send(request).status == 200


async def test_core_24_changed_identity_headers(world: World):
    _, request = await captured(world, caller="agent-7", context={"run_id": "r"}, warm=True)
    for name, value in (
        ("X-Alter-Caller", "agent-8"),
        ("X-Alter-Caller-Type", "agent"),
        ("X-Alter-Actor-ID", UNKNOWN),
        ("X-Alter-Context", '{"run_id":"s"}'),
        ("X-Alter-Signature-V2", "0" * 64),
    ):
        refused(world.send(set_header(request, name, value)), "signature_invalid")
    assert world.send(request).status == 200


async def test_core_24_added_headers(world: World):
    _, request = await captured(world)
    signature = value_of(request, "X-Alter-Signature")
    with_second = add_header(request, "X-Alter-Signature-V2", signature)
    refused(world.send(with_second), "signature_invalid")
    for name, value in (
        ("X-Alter-Caller", "evil"),
        ("X-Alter-Caller-Type", "agent"),
        ("X-Alter-Actor-ID", UNKNOWN),
        ("X-Alter-Context", '{"user_id":"evil"}'),
        ("X-Alter-Scope-Constraints", "tokens:retrieve"),
        ("X-Alter-Request-Rule", "eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0"),
    ):
        refused(world.send(add_header(request, name, value)), "signature_invalid")
        refused(world.send(add_header(with_second, name, value)), "signature_invalid")
    assert world.send(request).status == 200


def test_core_24_lines_cannot_be_moved_between_headers(world: World):
    """A value that contains what looks like the next line of the signed text."""
    grant = world.secret().grant_id
    signed = world.token_request(grant, caller="a", caller_type="service")
    moved = world.token_request(grant, caller="a", caller_type="service")
    moved.drop("X-Alter-Caller-Type").set("X-Alter-Caller", "a\tcaller-type:service")
    moved.set("X-Alter-Signature", signed.header("X-Alter-Signature"))
    assert world.send(moved).status in (400, 401)


async def test_core_24_edited_signatures(world: World):
    _, request = await captured(world)
    signature = value_of(request, "X-Alter-Signature")
    for edited in (
        signature[:-1],
        signature[:32],
        signature + "0",
        signature + signature,
        signature.upper(),
        signature[::-1],
        "",
        "0" * 64,
        "g" * 64,
        "v1=" + signature,
    ):
        refused(world.send(set_header(request, "X-Alter-Signature", edited)), "signature_invalid")
    assert world.send(request).status == 200


def test_signed_with_another_key(world: World):
    mine, other = world.mint(), world.mint()
    request = world.token_request(world.secret().grant_id, key=mine)
    refused(world.send(request.set("x-api-key", other.api_key)), "signature_invalid")


def quiet_second() -> int:
    """Now, in the first half of a second, so that a whole second cannot pass while the request is on its way."""
    while time.time() % 1 > 0.4:
        time.sleep(0.02)
    return int(time.time())


@pytest.mark.parametrize(("skew", "accepted"), [(-59, True), (59, True), (-61, False), (61, False), (-86_400, False)])
def test_core_23_window_of_sixty_seconds(world: World, skew: int, accepted: bool):
    grant = world.secret().grant_id
    answer = world.send(world.token_request(grant, timestamp=quiet_second() + skew))
    if accepted:
        assert answer.status == 200
    else:
        refused(answer, "timestamp_out_of_range")


@pytest.mark.parametrize("text", ["", "abc", "-1", "1.5", "1e9", "0x10", " 1", "9" * 30, "١٧"])
def test_malformed_timestamps(world: World, text: str):
    request = world.token_request(world.secret().grant_id)
    request.set("X-Alter-Timestamp", text)
    refused(world.send(request), "signature_invalid", "timestamp_out_of_range")


@pytest.mark.parametrize("nonce", ["", "0" * 31, "0" * 33, "g" * 32, "A" * 32, "0" * 16 + " " + "0" * 15, "0" * 64])
def test_malformed_nonces(world: World, nonce: str):
    request = world.token_request(world.secret().grant_id)
    request.nonce = nonce
    refused(world.send(request.sign()), "signature_invalid")


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "Z" * 64])
def test_malformed_content_hashes(world: World, digest: str):
    request = world.token_request(world.secret().grant_id).set("X-Alter-Content-SHA256", digest)
    refused(world.send(request), "signature_invalid", "content_hash_mismatch")


SIGNATURE_HEADERS = ["X-Alter-Timestamp", "X-Alter-Nonce", "X-Alter-Content-SHA256", "X-Alter-Signature"]


@pytest.mark.parametrize("name", SIGNATURE_HEADERS)
def test_missing_signature_headers(world: World, name: str):
    refused(world.send(world.token_request(world.secret().grant_id).drop(name)), "signature_invalid")


def test_missing_key(world: World):
    grant = world.secret().grant_id
    refused(world.send(world.token_request(grant).drop("x-api-key")), "invalid_key")
    refused(world.send(world.token_request(grant).set("x-api-key", "")), "invalid_key")
    bearer = world.token_request(grant).drop("x-api-key").add("Authorization", f"Bearer {world.key.api_key}")
    refused(world.send(bearer), "invalid_key")
    refused(world.send(b"GET /sdk/scopes HTTP/1.1\r\nHost: x\r\n\r\n"), "invalid_key")


@pytest.mark.parametrize("name", ["x-api-key", *SIGNATURE_HEADERS, "X-Alter-Caller", "X-Alter-Context"])
@pytest.mark.parametrize("same", [True, False])
def test_duplicated_headers(world: World, name: str, same: bool):
    """Two values of one header are read as two things by two readers; neither may be chosen silently."""
    request = world.token_request(world.secret().grant_id, caller="c", caller_type="service", context='{"user_id":"u"}')
    other = {"x-api-key": invent_key(), "X-Alter-Caller": "d", "X-Alter-Context": '{"user_id":"v"}'}
    value = request.header(name)
    request.add(name, value if same else other.get(name, value[:-1] + ("0" if value[-1] != "0" else "1")))
    answer = world.send(request)
    assert answer.status in (400, 401), answer
    assert b"access_token" not in answer.body


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity", "zstd"])
def test_content_encoding_is_not_supported(world: World, encoding: str):
    request = world.token_request(world.secret().grant_id).add("Content-Encoding", encoding)
    answer = world.send(request)
    assert (answer.status, answer.error) == (415, "encoding_unsupported")


def padded(value: object, size: int) -> bytes:
    """Valid JSON of exactly that many bytes."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize(
    ("path", "most"),
    [("/sdk/token", 64 * 1024), ("/sdk/grants/list", 64 * 1024), ("/sdk/oauth/audit/api-call", 1024 * 1024)],
)
def test_body_at_its_limit_and_one_beyond(world: World, path: str, most: int):
    grant = world.secret().grant_id
    body = {
        "/sdk/token": world.token_body(grant),
        "/sdk/grants/list": {"limit": 1, "offset": 0},
        "/sdk/oauth/audit/api-call": {
            "grant_id": grant,
            "method": "GET",
            "url": "https://x.example/",
            "response_status": 200,
        },
    }[path]
    key = world.key.api_key
    fits = world.send(Request("POST", path, key, padded(body, most)).sign())
    assert fits.status < 300, fits
    over = world.send(Request("POST", path, key, padded(body, most + 1)).sign())
    assert (over.status, over.error) == (413, "body_too_large")
    chunked = Request("POST", path, key, padded(body, most + 1)).sign().add("Transfer-Encoding", "chunked")
    wire = chunked.wire()
    head, _, plain = wire.partition(b"\r\n\r\n")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (plain[i : i + 8000] for i in range(0, len(plain), 8000)))
    answer = world.send(head + b"\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert (answer.status, answer.error) == (413, "body_too_large")


def test_chunked_body_verifies(world: World):
    request = world.token_request(world.secret().grant_id).add("Transfer-Encoding", "chunked")
    head, _, body = request.wire().partition(b"\r\n\r\n")
    assert b"content-length" not in head.lower()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[:7], body[7:20], body[20:]))
    assert world.send(head + b"\r\n\r\n" + chunks + b"0\r\n\r\n").status == 200


def test_expect_100_continue(world: World):
    """The body is asked for only when its sender is known."""
    known = world.token_request(world.secret().grant_id).add("Expect", "100-continue")
    head, _, body = known.wire().partition(b"\r\n\r\n")
    with http.connect(world.server.url, source=world.source) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert http.read_answer(sock, "POST").status == 200
    unknown = Request("POST", "/sdk/token", invent_key()).sign().add("Expect", "100-continue").wire(content_length=99)
    with http.connect(world.server.url, source=world.source) as sock:
        sock.sendall(unknown)
        assert sock.recv(100).startswith(b"HTTP/1.1 401 ")


def test_length_and_chunked_together(world: World):
    """The two ways to frame a body disagree: the classic request smuggling."""
    grant = world.secret().grant_id
    request = world.token_request(grant)
    head, _, body = request.wire().partition(b"\r\n\r\n")
    smuggled = world.token_request(grant).wire()
    data = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled
    with http.connect(world.server.url) as sock:
        sock.sendall(data)
        first = http.read_answer(sock, "POST")
    assert first.status in (400, 401), first
    assert world.events(kind="token.released") == []


def test_body_of_an_unknown_key_is_never_read(world: World):
    """Its size is announced and nothing of it is sent: the answer comes all the same."""
    request = Request("POST", "/sdk/oauth/audit/api-call", invent_key(), b"").sign()
    wire = request.wire(content_length=1024 * 1024)
    with http.connect(world.server.url, timeout=8) as sock:
        sock.sendall(wire)
        refused(http.read_answer(sock, "POST"), "invalid_key")


def with_headers(request: Request, count: int) -> bytes:
    """The request filled up to that many header lines."""
    present = request.wire().partition(b"\r\n\r\n")[0].count(b"\r\n")
    for i in range(count - present):
        request.add(f"X-Fill-{i}", "1")
    wire = request.wire()
    assert wire.partition(b"\r\n\r\n")[0].count(b"\r\n") == count
    return wire


def test_number_of_headers(world: World):
    grant = world.secret().grant_id
    assert world.send(with_headers(world.token_request(grant), 100)).status == 200
    too_many = world.send(with_headers(world.token_request(grant), 101))
    assert too_many.status == 431, too_many
    assert world.send(with_headers(world.token_request(grant), 5000)).status == 431


def test_size_of_one_header(world: World):
    grant = world.secret().grant_id
    line = len("X-Fill: ")
    fits = world.token_request(grant).add("X-Fill", "a" * (16 * 1024 - line - 2))
    assert world.send(fits).status == 200
    over = world.send(world.token_request(grant).add("X-Fill", "a" * (16 * 1024 + 1)))
    assert over.status == 431, over


def test_size_of_the_head(world: World):
    grant = world.secret().grant_id
    fits, over = world.token_request(grant), world.token_request(grant)
    for i in range(6):
        fits.add(f"X-Fill-{i}", "a" * 10_000)
        over.add(f"X-Fill-{i}", "a" * 11_000)
    assert len(fits.wire()) < 64 * 1024 < len(over.wire())
    assert world.send(fits).status == 200
    assert world.send(over).status == 431
    target = world.send(world.signed("GET", "/sdk/agents/" + "a" * 70_000))
    assert target.status in (400, 414, 431), target


@pytest.mark.parametrize(
    "path",
    [
        "/sdk/scopes%0A",
        "/sdk/%0Ascopes",
        "/sdk/grants/a%0Ab/mint",
        "/sdk/scopes%00",
        "/sdk/a%7Fb",
        "/sdk/a%C2%85b",
        "/sdk/scopes%0D%0Ax",
    ],
)
def test_control_characters_in_the_path(world: World, path: str):
    method = "POST" if path.endswith("mint") else "GET"
    answer = world.send(world.signed(method, path))
    assert answer.status in (400, 401), answer
    schema.error(answer.status, answer.json())


@pytest.mark.parametrize("path", ["/sdk/agents/%ff%fe", "/sdk/agents/%C3%28", "/sdk/agents/%"])
def test_path_that_is_not_utf_8_verifies_as_replacement_characters(world: World, path: str):
    answer = world.send(world.signed("GET", path))
    assert answer.status in (400, 404, 501), answer


def test_raw_bytes_in_the_path(world: World):
    request = world.signed("GET", "/sdk/scopes")
    for raw in (b"/sdk/\xff", b"/sdk/\x01", b"/sdk/\xc3\xa9", b"/sdk/a\x00b", b"/sdk/scopes\x0b"):
        answer = world.send(request.wire().replace(b"/sdk/scopes", raw, 1))
        assert answer.status in (400, 401, 501), (raw, answer)


@pytest.mark.parametrize("form", ["{}%2F", "%2F{}", "..%2F{}", "{}%2Frevoke", "a%2Fb"])
def test_slash_in_an_id(world: World, form: str):
    """`%2F` and `/` verify alike, so an id that holds one is no id."""
    grant = world.secret().grant_id
    path = f"/sdk/oauth/grants/{form.format(grant)}/revoke"
    answer = world.send(world.signed("POST", path, {}))
    assert answer.status in (400, 404, 501), answer
    resigned = world.signed("POST", f"/sdk/oauth/grants/{grant}%2Frevoke", {})
    assert world.send(resigned).status in (400, 404, 501)
    assert world.events(kind="grant.revoked") == []


def test_dot_segments_and_doubled_slashes_are_not_another_spelling(world: World):
    for path in ("/sdk//scopes", "/sdk/./scopes", "/sdk/x/../scopes", "/sdk/scopes/", "//sdk/scopes", "/sdk/%73copes/"):
        answer = world.send(world.signed("GET", path))
        assert answer.status in (400, 401, 404, 501), (path, answer)
        assert answer.header("location") is None


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("not json", None),
        ("", None),
        ("{", None),
        ("[]", None),
        ("null", None),
        ('"text"', None),
        ("{}", "request"),
        ('{"grant_id":5,"reason":null,"request":{"method":"GET","url":"https://x"}}', "grant_id"),
        ('{"grant_id":null,"reason":null,"request":{"method":"GET","url":"https://x"}}', "grant_id"),
        ('{"grant_id":"G","reason":7,"request":{"method":"GET","url":"https://x"}}', "reason"),
        ('{"grant_id":"G","reason":null,"request":"GET"}', "request"),
        ('{"grant_id":"G","reason":null,"request":{"method":"GET"}}', "url"),
        ('{"grant_id":"G","reason":null,"request":{"method":1,"url":"https://x"}}', "method"),
        ('{"grant_id":"G","reason":null,"request":{"method":"GET","url":["https://x"]}}', "url"),
        ('{"grant_id":"G","reason":null,"request":null}', "request"),
        ('{"grant_id":"G","reason":null,"request":{"method":"GET","url":"https://x"},"user_token":5}', "user_token"),
        (
            '{"grant_id":"G","provider_id":"p","reason":null,"request":{"method":"GET","url":"https://x"}}',
            "provider_id",
        ),
        ('{"grant_id":"G","grant_id":"H","reason":null,"request":{"method":"GET","url":"https://x"}}', "grant_id"),
        ('{"grant_id":"G","reason":null,"request":{"method":"GET","url":"https://x"}} trailing', None),
    ],
)
def test_malformed_token_bodies_are_400_and_name_the_field(world: World, value: str, named: str | None):
    body = value.replace('"G"', f'"{world.secret().grant_id}"').encode()
    answer = world.send(Request("POST", "/sdk/token", world.key.api_key, body).sign())
    assert (answer.status, answer.error) == (400, "invalid_request"), answer
    text = json.dumps(answer.json())
    assert named is None or named in text, text
    assert "struct" not in text, f"the reader does not know our types: {text}"
    schema.error(answer.status, answer.json())


def test_an_array_is_not_an_object(world: World):
    """Even if its items are, in order, what the fields of the object would be."""
    secret = world.secret()
    grant = world.grant(secret)
    target = {"method": "GET", "url": world.corner.url()}
    for path, body in (
        ("/sdk/token", [grant, None, None, target]),
        ("/sdk/token", [grant, None, None, target, None, None, None, None]),
        ("/sdk/token", {"grant_id": grant, "reason": None, "request": ["GET", world.corner.url()]}),
        ("/sdk/grants/list", []),
        ("/sdk/grants/list", [10, 0]),
        (f"/sdk/oauth/grants/{grant}/revoke", []),
        (f"/sdk/oauth/grants/{grant}/revoke", ["reason"]),
        (f"/sdk/managed-secrets/{secret.id}/grants", [{"type": "system"}]),
        (f"/sdk/managed-secrets/{secret.id}/grants", [["system", "label"], {}, None]),
        ("/sdk/oauth/audit/api-call", [grant, None, None, "GET", "https://x.example/", None, None, 200]),
        (f"/sdk/grants/{grant}/report-scope-mismatch", [403, "insufficient_scope"]),
    ):
        answer = world.send(world.signed("POST", path, body))
        assert (answer.status, answer.error) == (400, "invalid_request"), (path, body, answer)
    assert {e["kind"] for e in world.events()} & {"token.released", "grant.revoked", "call.claimed"} == set()


def test_deeply_nested_and_hostile_json(world: World):
    key = world.key.api_key
    for body in (
        b"[" * 30_000 + b"]" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"grant_id":"' + b"\\u0000" * 100 + b'","reason":null,"request":{"method":"GET","url":"https://x"}}',
        b'{"grant_id":"\xff\xfe","reason":null,"request":{"method":"GET","url":"https://x"}}',
        b'{"grant_id":"\\ud800","reason":null,"request":{"method":"GET","url":"https://x"}}',
        b'{"limit":1e400}',
        b'{"limit":NaN}',
    ):
        answer = world.send(Request("POST", "/sdk/token", key, body).sign())
        assert answer.status in (400, 404), answer


@pytest.mark.parametrize("method", ["", "G ET", "GET\r\nX: y", "é", "A" * 300])
def test_target_method_is_a_token(world: World, method: str):
    body = world.token_body(world.secret().grant_id)
    body["request"]["method"] = method
    answer = world.send(world.signed("POST", "/sdk/token", body))
    assert answer.status in (400, 422), answer
    assert b"access_token" not in answer.body


def test_unknown_body_fields_are_ignored_under_sdk(world: World):
    """A newer client may send more than this server knows."""
    body = world.token_body(world.secret().grant_id, brand_new_field={"a": 1})
    assert world.send(world.signed("POST", "/sdk/token", body)).status == 200


@pytest.mark.parametrize(
    "context",
    [
        "not json",
        "[]",
        '"x"',
        '{"a":1}',
        '{"a":null}',
        '{"a":{"b":"c"}}',
        json.dumps({f"k{i}": "v" for i in range(21)}, separators=(",", ":")),
        json.dumps({"k" * 65: "v"}, separators=(",", ":")),
        json.dumps({"k": "v" * 513}, separators=(",", ":")),
        json.dumps({f"k{i}": "v" * 500 for i in range(9)}, separators=(",", ":")),
        '{"user_id":"a","user_id":"b"}',
    ],
)
def test_context_beyond_its_limits(world: World, context: str):
    answer = world.send(world.token_request(world.secret().grant_id, context=context))
    assert (answer.status, answer.error) == (400, "invalid_context"), answer
    assert world.events(kind="token.released") == []


def test_context_at_its_limits(world: World):
    grant = world.secret().grant_id
    most = {f"{i:02}" + "k" * 62: "v" * 120 for i in range(20)}
    for context in (most, {"k": "v" * 512}, {}):
        text = json.dumps(context, separators=(",", ":"))
        assert len(text) <= 4096
        assert world.send(world.token_request(grant, context=text)).status == 200
    contexts = [e.get("context", {}) for e in world.events(kind="token.released")]
    assert contexts == [most, {"k": "v" * 512}, {}]


@pytest.mark.parametrize(
    ("caller", "kind"),
    [
        ("x" * 256, "service"),
        ("ünï", "service"),
        ("ok", "robot"),
        ("ok", "Service"),
        ("tab\there", "agent"),
        (None, "agent"),
    ],
)
def test_caller_beyond_its_limits(world: World, caller: str | None, kind: str | None):
    request = world.token_request(world.secret().grant_id, caller=caller, caller_type=kind)
    answer = world.send(request)
    assert answer.status in (400, 401), answer
    assert answer.error in ("invalid_caller", "invalid_request", "signature_invalid"), answer


def test_caller_at_its_limit(world: World):
    caller = "~" * 255
    request = world.token_request(world.secret().grant_id, caller=caller, caller_type="agent")
    assert world.send(request).status == 200
    assert [e["caller"] for e in world.events(kind="token.released")] == [caller]


def test_unknown_routes_are_501(world: World):
    for method, path in (
        ("GET", "/sdk/nothing"),
        ("POST", "/sdk/tokens"),
        ("GET", "/sdk"),
        ("GET", "/sdk/"),
        ("POST", "/sdk/token/x"),
        ("DELETE", "/sdk/grants"),
    ):
        answer = world.send(world.signed(method, path))
        assert (answer.status, answer.error) == (501, "unknown_route"), (path, answer)
        schema.error(answer.status, answer.json())


def test_known_paths_with_another_method_are_405(world: World):
    for method, path in (
        ("GET", "/sdk/token"),
        ("DELETE", "/sdk/token"),
        ("PUT", "/sdk/grants/list"),
        ("POST", "/sdk/scopes"),
        ("PATCH", f"/sdk/oauth/grants/{UNKNOWN}/revoke"),
        ("GET", "/sdk/oauth/audit/api-call"),
    ):
        answer = world.send(world.signed(method, path))
        assert (answer.status, answer.error) == (405, "method_not_allowed"), (method, path, answer)


UNBUILT = [
    ("POST", "/sdk/proxy"),
    ("GET", f"/sdk/approvals/{UNKNOWN}"),
    ("GET", f"/sdk/approvals/{UNKNOWN}/result"),
    ("POST", f"/sdk/grants/{UNKNOWN}/delegate"),
    ("DELETE", f"/sdk/grants/{UNKNOWN}/delegations/{UNKNOWN}"),
    ("DELETE", f"/sdk/grants/{UNKNOWN}/delegations/me"),
    ("POST", "/sdk/agents"),
    ("GET", "/sdk/agents"),
    ("GET", "/sdk/agents/me"),
    ("GET", f"/sdk/agents/{UNKNOWN}"),
    ("PATCH", f"/sdk/agents/{UNKNOWN}"),
    ("DELETE", f"/sdk/agents/{UNKNOWN}"),
    ("GET", f"/sdk/agents/{UNKNOWN}/keys"),
    ("POST", f"/sdk/agents/{UNKNOWN}/keys"),
    ("PATCH", f"/sdk/agents/{UNKNOWN}/keys/{UNKNOWN}/deprecate"),
    ("PATCH", f"/sdk/agents/{UNKNOWN}/keys/{UNKNOWN}/undeprecate"),
    ("DELETE", f"/sdk/agents/{UNKNOWN}/keys/{UNKNOWN}"),
    ("POST", "/sdk/keys/derive"),
    ("POST", f"/sdk/keys/{UNKNOWN}/rotate"),
    ("DELETE", f"/sdk/keys/{UNKNOWN}"),
    ("GET", "/sdk/provider-specs"),
    ("GET", "/sdk/provider-specs/oauth/github"),
    ("GET", "/sdk/provider-specs/oauth/github/operations"),
    ("GET", "/sdk/provider-specs/oauth/github/operation"),
    ("POST", "/sdk/spans"),
]


def test_every_unbuilt_route_authenticates_and_then_says_so(world: World):
    got = {}
    for method, path in UNBUILT:
        body = {} if method in ("POST", "PATCH") else None
        answer = world.send(world.signed(method, path, body))
        got[method, path] = (answer.status, answer.error)
        schema.error(answer.status, answer.json())
        forged = world.signed(method, path, body).set("X-Alter-Signature", "0" * 64)
        assert world.send(forged).error == "signature_invalid", path
    wrong = {route: answer for route, answer in got.items() if answer != (501, "feature_unavailable")}
    assert wrong == {}


BUILT = [
    ("POST", "/sdk/token"),
    ("POST", "/sdk/auth/session"),
    ("POST", "/sdk/auth/poll"),
    ("POST", "/sdk/auth/verify-token"),
    ("POST", "/sdk/identity/resolve"),
    ("POST", "/sdk/identity/assert"),
    ("POST", "/sdk/oauth/audit/api-call"),
    ("POST", f"/sdk/grants/{UNKNOWN}/report-scope-mismatch"),
    ("POST", "/sdk/oauth/connect/session"),
    ("POST", "/sdk/oauth/connect/session/poll"),
    ("POST", f"/sdk/grants/{UNKNOWN}/mint"),
    ("POST", "/sdk/grants/list"),
    ("POST", f"/sdk/oauth/grants/{UNKNOWN}/revoke"),
    ("POST", f"/sdk/managed-secrets/{UNKNOWN}/grants"),
    ("GET", "/sdk/oauth/provider-catalog"),
    ("GET", "/sdk/scopes"),
]


@pytest.mark.parametrize(("method", "path"), [*BUILT, *UNBUILT])
def test_no_route_answers_without_a_valid_signature(world: World, method: str, path: str):
    body = {} if method in ("POST", "PATCH") else None
    refused(world.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()), "invalid_key")
    stranger = (
        Request.json(method, path, invent_key(), body) if body is not None else Request(method, path, invent_key())
    )
    refused(world.send(stranger.sign()), "invalid_key")


def test_connection_stays_usable_after_an_error(world: World):
    secret = world.secret()
    with http.connect(world.server.url) as sock:
        for wire, status in (
            (world.token_request(UNKNOWN).wire(), 404),
            (world.token_request(secret.grant_id).wire(), 200),
            (world.signed("GET", "/sdk/nothing").wire(), 501),
            (world.token_request(secret.grant_id).wire(), 200),
        ):
            sock.sendall(wire)
            assert http.read_answer(sock, wire.split(b" ")[0].decode()).status == status


def test_pipelined_requests_are_answered_in_order(world: World):
    grant = world.secret().grant_id
    wires = [
        world.token_request(grant).wire(),
        world.signed("GET", "/sdk/scopes").wire(),
        world.token_request(grant).wire(),
    ]
    wires[-1] = wires[-1].replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with http.connect(world.server.url) as sock:
        sock.sendall(b"".join(wires))
        data = b""
        while piece := sock.recv(65536):
            data += piece
    answers = http.parse_answers(data, ["POST", "GET", "POST"])
    assert [a.status for a in answers] == [200, 200, 200]
    assert "scope_version" in answers[1].json()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + secrets.token_bytes(200),
        b"GET\r\n\r\n",
        b"GET /sdk/scopes\r\n\r\n",
        b"GET /sdk/scopes HTTP/9.9\r\n\r\n",
        b"GET /sdk/scopes HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /sdk/scopes HTTP/1.1\r\nx y: z\r\n\r\n",
        b"GET http://other.example/sdk/scopes HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50),
        b"POST /sdk/token HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /sdk/token HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /sdk/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"\x00" * 4096,
    ],
)
def test_garbage_on_the_wire(world: World, garbage: bytes):
    """Whatever it is, it is refused or hung up on, and the server lives (the fixture checks)."""
    with http.connect(world.server.url, timeout=15) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            data = b""
    assert not data.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 500")), data[:200]


def test_hundreds_of_idle_and_half_open_connections(world: World):
    secret = world.secret()
    socks = [http.connect(world.server.url) for _ in range(300)]
    try:
        for index, sock in enumerate(socks):
            if index % 2:
                sock.sendall(b"POST /sdk/token HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert world.send(world.token_request(secret.grant_id)).status == 200
    finally:
        for sock in socks:
            sock.close()


def test_caller_that_hangs_up_before_the_answer(world: World):
    """The event may be there or not, but never two, and the server goes on."""
    grant = world.secret().grant_id
    for _ in range(20):
        with http.connect(world.server.url) as sock:
            sock.sendall(world.token_request(grant).wire())
    assert world.send(world.token_request(grant)).status == 200
    assert 1 <= len(world.events(kind="token.released")) <= 21
