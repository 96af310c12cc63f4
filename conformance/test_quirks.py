"""The quirks lab itself: each thing it plays, seen by a client that knows nothing but sockets."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import pytest

from harness import http as plain
from harness.http import Answer
from harness.quirks import BEHAVIOURS, TOO_LARGE_BYTES, Act, Quirks
from harness.quirky import Provider, Quirky

REDIRECT_URI = "http://127.0.0.1:9/oauth/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPES = ["read", "write"]


class Caller:
    """A client of one provider that sends what its quirks ask for."""

    def __init__(self, provider: Provider) -> None:
        self.provider, self.quirks, self.secret = provider, provider.quirks, provider.client_secret

    def consent(self, **more: str | None) -> dict[str, str]:
        """The query of the redirect that ends the consent."""
        query: dict[str, str | None] = {
            "response_type": "code",
            self.quirks.client_id: self.provider.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": " ".join(SCOPES),
            "state": "s",
        }
        if self.quirks.pkce != "refused":
            query |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        if self.quirks.offline:
            query |= [self.quirks.offline]
        sent = {name: value for name, value in {**query, **more}.items() if value is not None}
        answer = plain.call("GET", f"{self.provider.url('authorize')}?{urlencode(sent)}")
        assert answer.status == 302, answer
        location = answer.header("Location")
        assert location.startswith(f"{REDIRECT_URI}?")
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    def call(self, url: str, params: dict[str, str], **headers: str) -> Answer:
        headers = {"User-Agent": "lab", **headers}
        params = dict(params)
        client_id, secret = self.provider.client_id, self.secret
        if self.quirks.auth == "basic":
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            params |= {self.quirks.client_id: client_id, "client_secret": secret}
        if self.quirks.body == "query":
            return plain.call("POST", f"{url}?{urlencode(params)}", headers=headers)
        is_json = self.quirks.body == "json"
        headers["Content-Type"] = "application/json" if is_json else "application/x-www-form-urlencoded"
        body = json.dumps(params) if is_json else urlencode(params)
        return plain.call("POST", url, headers=headers, body=body.encode())

    def redeem(self, code: str | None = None, verifier: str = VERIFIER) -> Answer:
        code = code or self.consent()["code"]
        params = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI}
        return self.call(self.provider.url("token"), {**params, "code_verifier": verifier})

    def refresh(self, token: str) -> Answer:
        return self.call(self.provider.refresh_url, {"grant_type": "refresh_token", "refresh_token": token})

    def api(self, access: str, path: str = "api/mail") -> Answer:
        return plain.call("GET", self.provider.url(path), headers={"Authorization": f"Bearer {access}"})


@pytest.fixture
def caller(quirky: Quirky) -> Callable[..., Caller]:
    return lambda **quirks: Caller(quirky.provider(Quirks(**quirks)))


def form(answer: Answer) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(answer.body.decode(), keep_blank_values=True).items()}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_ends_in_a_token_that_works(quirky: Quirky, name: str):
    caller = Caller(quirky.provider(BEHAVIOURS[name]))
    answer = caller.redeem()
    tokens: dict[str, Any] = form(answer) if BEHAVIOURS[name].format.startswith("form") else answer.json()
    tokens = tokens.get(BEHAVIOURS[name].nested, tokens)
    assert caller.api(tokens["access_token"]).json()["email"] == "alice@example.test"
    has_refresh = BEHAVIOURS[name].refresh not in ("none", "exchange")
    assert ("refresh_token" in tokens) == has_refresh
    if has_refresh:
        assert caller.refresh(tokens["refresh_token"]).status == 200
        assert [call.status for call in caller.provider.refreshes] == [200]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("number", {"expires_in": 60}), ("text", {"expires_in": "60"}), ("zero", {"expires_in": 0}),
     ("null", {"expires_in": None}), ("absent", {})],
)  # fmt: skip
def test_lifetimes_are_said_in_many_ways(caller: Callable[..., Caller], kind: str, expected: dict):
    tokens = caller(expires_in=kind, access_seconds=60).redeem().json()
    assert {name: value for name, value in tokens.items() if name == "expires_in"} == expected


def test_access_tokens_end_when_their_time_has_come(quirky: Quirky, caller: Callable[..., Caller]):
    mortal, immortal = caller(access_seconds=60), caller(expires_in="zero")
    ends, stays = (each.redeem().json()["access_token"] for each in (mortal, immortal))
    assert [mortal.api(ends).status, immortal.api(stays).status] == [200, 200]
    quirky.forward(61)
    assert [mortal.api(ends).status, immortal.api(stays).status] == [401, 200]


@pytest.mark.parametrize(
    ("format", "kind", "read"),
    [("json", "application/json", Answer.json), ("json_called_html", "text/html", Answer.json),
     ("form", "application/x-www-form-urlencoded", form), ("form_called_json", "application/json", form)],
)  # fmt: skip
def test_answers_are_json_or_forms_whatever_they_are_called(
    caller: Callable[..., Caller], format: str, kind: str, read: Callable[[Answer], dict]
):
    answer = caller(format=format).redeem()
    assert answer.header("Content-Type") == kind
    assert {"access_token", "refresh_token", "expires_in"} <= set(read(answer))


@pytest.mark.parametrize(
    ("failure", "status", "more"), [("status", 400, {}), ("in_200", 200, {}), ("ok_false", 200, {"ok": False})]
)
def test_failures_have_a_status_or_not(caller: Callable[..., Caller], failure: str, status: int, more: dict):
    answer = caller(failure=failure).refresh("never issued")
    assert answer.status == status
    assert answer.json().items() >= {"error": "invalid_grant", **more}.items()


def test_tokens_may_be_nested_and_others_lie_beside_them(quirky: Quirky):
    nested = Caller(quirky.provider(BEHAVIOURS["nested"])).redeem().json()
    assert set(nested) == {"ok", "authed_user"}
    beside = Caller(quirky.provider(BEHAVIOURS["slack"])).redeem().json()
    assert beside["access_token"] != beside["authed_user"]["access_token"]
    instance = Caller(quirky.provider(BEHAVIOURS["salesforce"])).redeem().json()
    assert instance["instance_url"] == "https://acme.example.test"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("as_granted", "read write"), ("comma", "read,write"), ("list", SCOPES), ("absent", None)],
)
def test_scopes_are_said_in_many_ways(caller: Callable[..., Caller], shape: str, expected: object):
    assert caller(scope=shape).redeem().json().get("scope") == expected


def test_a_user_may_refuse_scopes(caller: Callable[..., Caller]):
    assert caller(refused_scopes=frozenset({"write"})).redeem().json()["scope"] == "read"


def test_a_stable_refresh_token_stays_and_may_not_be_said_again(caller: Callable[..., Caller]):
    stable, omitted = caller(), caller(refresh="omitted")
    for each, again in ((stable, True), (omitted, False)):
        token = each.redeem().json()["refresh_token"]
        for _ in range(2):
            answer = each.refresh(token).json()
            assert answer.get("refresh_token") == (token if again else None)
            assert each.api(answer["access_token"]).status == 200


def test_a_spent_refresh_token_is_refused(caller: Callable[..., Caller]):
    each = caller(refresh="single_use")
    first = each.redeem().json()
    second = each.refresh(first["refresh_token"]).json()
    assert each.refresh(first["refresh_token"]).error == "invalid_grant"
    assert each.provider.is_alive
    assert each.refresh(second["refresh_token"]).status == 200


def test_a_grace_lets_a_spent_refresh_token_through_for_a_while(quirky: Quirky, caller: Callable[..., Caller]):
    each = caller(refresh="single_use", grace_seconds=60, reuse_ends_family=True)
    first = each.redeem().json()["refresh_token"]
    second = each.refresh(first).json()["refresh_token"]
    assert each.refresh(first).json()["refresh_token"] == second
    quirky.forward(61)
    assert each.refresh(first).error == "invalid_grant"
    assert not each.provider.is_alive


def test_reuse_ends_the_family(caller: Callable[..., Caller]):
    each = caller(refresh="single_use", reuse_ends_family=True)
    first = each.redeem().json()["refresh_token"]
    second = each.refresh(first).json()
    assert each.refresh(first).error == "invalid_grant"
    assert each.refresh(second["refresh_token"]).error == "invalid_grant"
    assert each.api(second["access_token"]).status == 401


def test_a_new_access_token_may_end_the_old_one(caller: Callable[..., Caller]):
    for ends_old, status in ((True, 401), (False, 200)):
        each = caller(new_access_ends_old=ends_old)
        tokens = each.redeem().json()
        each.refresh(tokens["refresh_token"])
        assert each.api(tokens["access_token"]).status == status


def test_refreshes_may_have_a_url_of_their_own(caller: Callable[..., Caller]):
    each = caller(refresh_apart=True)
    token = each.redeem().json()["refresh_token"]
    params = {"grant_type": "refresh_token", "refresh_token": token}
    assert each.call(each.provider.url("token"), params).error == "unsupported_grant_type"
    assert each.refresh(token).status == 200
    assert [call.endpoint for call in each.provider.refreshes] == ["token", "refresh"]


def test_an_access_token_may_be_exchanged_for_a_new_one(caller: Callable[..., Caller]):
    each = caller(refresh="exchange")
    old = each.redeem().json()["access_token"]

    def exchange(access: str) -> Answer:
        return plain.call("GET", f"{each.provider.refresh_url}?{urlencode({'access_token': access})}")

    new = exchange(old).json()["access_token"]
    assert new != old
    assert each.api(new).status == 200
    assert exchange("never issued").error == "invalid_grant"


def test_a_client_must_say_who_it_is_and_in_the_right_way(quirky: Quirky):
    for auth, other in (("basic", "post"), ("post", "basic")):
        each = Caller(quirky.provider(Quirks(auth=auth)))
        code = each.consent()["code"]
        each.quirks = Quirks(auth=other)
        assert each.redeem(code).status == 401
        each.quirks, each.secret = each.provider.quirks, "another"
        assert (each.redeem(code).status, each.redeem(code).error) == (401, "invalid_client")
        each.secret = each.provider.client_secret
        assert each.redeem(code).status == 200
    for body, other in (("form", "json"), ("json", "query"), ("query", "form")):
        each = Caller(quirky.provider(Quirks(auth="post", body=body)))
        each.quirks = Quirks(auth="post", body=other)
        assert each.redeem().status == 401


def test_a_code_works_once_with_its_verifier_alone(caller: Callable[..., Caller]):
    each = caller()
    assert each.redeem(verifier="w" * 43).error == "invalid_grant"
    code = each.consent()["code"]
    assert [each.redeem(code).status for _ in range(2)] == [200, 400]


def test_pkce_is_demanded_ignored_or_refused(caller: Callable[..., Caller]):
    bare = {"code_challenge": None, "code_challenge_method": None}
    sent = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    assert caller(pkce="required").consent(**bare)["error"] == "invalid_request"
    assert "code" in caller(pkce="ignored").consent(**bare)
    assert caller(pkce="refused").consent(**sent)["error"] == "invalid_request"
    assert "code" in caller(pkce="refused").consent()


def test_a_refresh_token_may_have_to_be_asked_for(caller: Callable[..., Caller]):
    each = caller(offline=("access_type", "offline"))
    code = each.consent(access_type="online")["code"]
    assert "refresh_token" not in each.redeem(code).json()
    assert "refresh_token" in each.redeem().json()


def test_a_caller_without_a_name_may_be_refused(caller: Callable[..., Caller]):
    each = caller(user_agent=True)
    code = each.consent()["code"]
    with plain.connect(each.provider.lab.url) as sock:
        sock.sendall(f"POST /{each.provider.name}/token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert plain.read_answer(sock, "POST").status == 429
    assert each.redeem(code).status == 200


def test_what_comes_back_with_the_code(caller: Callable[..., Caller]):
    each = caller(sends_iss=True, callback={"realmId": "913"}, code_suffix="#_")
    back = each.consent()
    assert back.keys() == {"code", "state", "iss", "realmId"}
    assert back["state"] == "s"
    assert back["iss"] == f"{each.provider.lab.url}/{each.provider.name}"
    each.provider.denies = "access_denied"
    assert each.consent().items() >= {"error": "access_denied", "state": "s"}.items()


def test_an_unknown_client_is_told_on_a_page_and_not_by_a_redirect(caller: Callable[..., Caller]):
    query = urlencode({"client_id": "x", "redirect_uri": "https://evil.example", "response_type": "code"})
    answer = plain.call("GET", f"{caller().provider.url('authorize')}?{query}")
    assert (answer.status, answer.header("Location")) == (400, None)


def spoilt(each: Caller, token: str) -> object:
    """What a client gets: status and the beginning of the body, or how the connection ended."""
    try:
        answer = each.refresh(token)
    except http.client.IncompleteRead as cut:
        return ("cut", len(cut.partial) > 0)
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return "closed"
    return (answer.status, answer.body[:5])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("act", "seen"),
    [
        ({"kind": "status", "status": 503}, (503, b'{"err')),
        ({"kind": "html", "status": 502}, (502, b"<!doc")),
        ({"kind": "html", "status": 200}, (200, b"<!doc")),
        ({"kind": "garbage"}, (200, b"\x00\xff\xfe{]")),
        ({"kind": "empty"}, (200, b"")),
        ({"kind": "too_large"}, (200, b"     ")),
        ({"kind": "no_token"}, (200, b'{"tok')),
        ({"kind": "cut_off"}, ("cut", True)),
        ({"kind": "close"}, "closed"),
        ({"kind": "error", "code": "server_error", "status": 500}, (500, b'{"err')),
    ],
)
def test_an_act_happens_before_or_after_the_token_is_spent(
    caller: Callable[..., Caller], act: dict, seen: object, after: bool
):
    each = caller(refresh="single_use")
    token = each.redeem().json()["refresh_token"]
    each.provider.play(Act(**act, after=after))
    assert spoilt(each, token) == seen
    # The act is over, and the token is there, or gone for ever.
    assert each.refresh(token).error == ("invalid_grant" if after else None)
    assert len(each.provider.refreshes) == 2


def test_an_act_may_stay_until_it_is_over(caller: Callable[..., Caller]):
    each = caller()
    token = each.redeem().json()["refresh_token"]
    each.provider.play(Act("status", status=503, always=True))
    assert [each.refresh(token).status for _ in range(3)] == [503] * 3
    each.provider.play()
    assert each.refresh(token).status == 200


def test_an_answer_that_is_too_large_holds_a_token_at_its_end(caller: Callable[..., Caller]):
    each = caller()
    each.provider.play(Act("too_large"))
    answer = each.redeem()
    assert len(answer.body) > TOO_LARGE_BYTES
    assert "access_token" in answer.json()


@pytest.mark.parametrize("retry_after", ["7", "Sun, 29 Nov 2026 08:00:00 GMT"])
def test_too_many_requests_may_say_when_to_come_again(caller: Callable[..., Caller], retry_after: str):
    each = caller()
    each.provider.play(Act("status", status=429, retry_after=retry_after))
    answer = each.refresh("x")
    assert (answer.status, answer.header("Retry-After")) == (429, retry_after)


def test_a_slow_answer_and_one_that_never_comes(caller: Callable[..., Caller]):
    each = caller(auth="post")
    token = each.redeem().json()["refresh_token"]
    each.provider.play(Act("slow", seconds=0.2), Act("hang"))
    assert each.refresh(token).status == 200
    params = {"client_id": each.provider.client_id, "client_secret": each.provider.client_secret}
    body = urlencode({**params, "grant_type": "refresh_token", "refresh_token": token})
    with plain.connect(each.provider.lab.url, timeout=0.5) as sock:
        head = f"POST /{each.provider.name}/token HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall((head + body).encode())
        with pytest.raises(socket.timeout):
            plain.read_answer(sock, "POST")
    assert each.refresh(token).status == 200
    assert [call.status for call in each.provider.refreshes] == [200, None, 200]


def test_either_token_can_be_revoked_and_ends_both(caller: Callable[..., Caller]):
    for name in ("access_token", "refresh_token"):
        each = caller()
        tokens = each.redeem().json()
        assert each.call(each.provider.url("revoke"), {"token": tokens[name]}).status == 200
        assert each.api(tokens["access_token"]).status == 401
        assert each.refresh(tokens["refresh_token"]).error == "invalid_grant"
        assert [call.params["token"] for call in each.provider.made("revoke")] == [tokens[name]]


def test_users_can_end_their_consent_at_the_provider(caller: Callable[..., Caller]):
    each = caller()
    tokens = each.redeem().json()
    each.provider.end()
    assert each.refresh(tokens["refresh_token"]).error == "invalid_grant"
    assert each.api(tokens["access_token"], "userinfo").header("WWW-Authenticate") == 'Bearer error="invalid_token"'


def test_providers_share_nothing(caller: Callable[..., Caller]):
    one, other = caller(), caller()
    tokens = one.redeem().json()
    assert other.refresh(tokens["refresh_token"]).error == "invalid_grant"
    assert other.api(tokens["access_token"]).status == 401
    assert plain.call("GET", f"{one.provider.lab.url}/nobody/token").status == 404
    assert (len(one.provider.calls), len(other.provider.calls)) == (1, 2)
