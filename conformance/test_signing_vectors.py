"""The known-answer vectors of the protocol, against the independent signer that the raw tests use."""

from __future__ import annotations

import hashlib

from signing import BASE32, Request, canonical_target, invent_key, key_checksum, signing_key

KEY = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl"
FROZEN = {"timestamp": 1_700_000_000, "nonce": "00112233445566778899aabbccddeeff"}


def test_key_checksum_of_the_example_key():
    assert key_checksum("rk", "a" * 22) == "l77ykl"


def test_invented_keys_have_the_published_shape():
    for kind in ("rk", "ak", "dk", "pk"):
        prefix, key_type, random, checksum = invent_key(kind).split("_")
        assert (prefix, key_type) == ("alter", kind)
        assert (len(random), len(checksum)) == (22, 6)
        assert set(random + checksum) <= set(BASE32)


def test_signing_key_of_the_example_key():
    assert signing_key(KEY).hex() == "90c342a50af891b5f213740608f7610f0dcb23e1f0f9ae5aad0a8303bf208ef8"


def test_vector_a_plain():
    body = b'{"limit":100,"offset":0}'
    assert hashlib.sha256(body).hexdigest() == "79cca47b16046efc521110b1af7825c6ea1893f0513b5314c7d4cc8cc4bed0fb"
    request = Request("POST", "/sdk/grants/list", KEY, body, **FROZEN).sign()
    assert request.header("X-Alter-Signature") == "be3956719e365d5c25c80edfafeb27e4611e91609a4dc6277af99078d757d736"
    assert request.header("X-Alter-Signature-V2") is None


def test_vector_b_encoded_path_and_query():
    target = "/sdk/provider-specs/oauth/a%2Fb%20c/operations?limit=5&offset=0&search=x+y~%2A%C3%A9%2F"
    assert canonical_target(target) == (
        "/sdk/provider-specs/oauth/a/b c/operations?limit=5&offset=0&search=x+y~%2A%C3%A9%2F"
    )
    request = Request("GET", target, KEY, **FROZEN).sign()
    assert request.header("X-Alter-Signature") == "06fb7206d2281d0da56695f04c5924ed5ccbb59b8d4ccf3990be8041fe184d33"


def test_vector_c_everything():
    request = Request(
        "POST",
        "/sdk/proxy",
        KEY,
        b'{"method":"GET","url":"https://api.example.com/v1","grant_id":"g"}',
        constraints="grants:read,x:y",
        rule="eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0",
        caller="my-agent",
        caller_type="agent",
        context='{"run_id":"r1"}',
        **FROZEN,
    ).sign()
    expected = "d585664e7962b874b84360806e52c359396886ab41c735211449ee8f0df4b55a"
    assert request.header("X-Alter-Signature") == expected
    assert request.header("X-Alter-Signature-V2") == expected


def test_canonical_target_sorts_decodes_once_and_drops_empty_parts():
    assert canonical_target("/sdk/agents/a%20b%2Fc%252F") == "/sdk/agents/a b/c%2F"
    assert canonical_target("/sdk/agents?") == "/sdk/agents"
    assert canonical_target("/x?b=2&&a=&a=1&c") == "/x?a=&a=1&b=2&c="
    assert canonical_target("/x?%C3%A9=+") == "/x?%C3%A9=+"
    assert canonical_target("/x%ff") == "/x\ufffd"
