"""The authorization server of the tests, shown without grantd: what it does by itself, and what a test can do to it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import http as plain
from harness.authorization_server import AuthorizationServer, Client, query_of
from harness.http import Answer
from harness.server import wait_until

REDIRECT_URI = "http://127.0.0.1:9/oauth/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPE = "openid email mail.read"


@pytest.fixture(params=["client_secret_basic", "client_secret_post"])
def client(request: pytest.FixtureRequest, authorization_server: AuthorizationServer) -> Client:
    return authorization_server.client(REDIRECT_URI, request.param)


@pytest.fixture
def any_client(authorization_server: AuthorizationServer) -> Callable[..., Client]:
    return lambda **settings: authorization_server.client(REDIRECT_URI, **settings)


def link(client: Client, scope: str = SCOPE, **more: str) -> str:
    return client.authorize_url(scope, state="s", code_challenge=CHALLENGE, code_challenge_method="S256", **more)


def redeem(client: Client, account: str = "alice", scope: str = SCOPE) -> dict:
    code = query_of(client.server.consent(link(client, scope), account))["code"]
    answer = exchange(client, code)
    assert answer.status == 200, answer
    return answer.json()


def exchange(client: Client, code: str, verifier: str = VERIFIER) -> Answer:
    fields = {"code": code, "redirect_uri": REDIRECT_URI, "code_verifier": verifier}
    return client.post("/token", grant_type="authorization_code", **fields)


def refresh(client: Client, tokens: dict) -> Answer:
    return client.post("/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"])


def api(client: Client, tokens: dict, path: str = "/api/mail") -> Answer:
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    return plain.call("GET", client.server.url + path, headers=headers)


def test_consent_ends_in_a_code_and_the_code_in_tokens_of_that_account(client: Client):
    back = client.server.consent(link(client), "alice")
    assert back.startswith(REDIRECT_URI + "?")
    assert query_of(back)["state"] == "s"
    assert query_of(back)["iss"] == client.server.url
    tokens = exchange(client, query_of(back)["code"]).json()
    assert tokens["scope"] == SCOPE
    assert tokens["expires_in"] == 3600
    assert api(client, tokens).json()["account"] == "alice"
    assert api(client, tokens, "/me").json() == {"sub": "alice", "email": "alice@example.test", "email_verified": True}
    assert [(c["grant_type"], c["auth"], c["status"]) for c in client.calls()] == [
        ("authorization_code", client.auth, 200)
    ]


def test_a_code_works_once_and_with_its_verifier_alone(any_client: Callable[..., Client]):
    client = any_client()
    code = query_of(client.server.consent(link(client), "alice"))["code"]
    assert exchange(client, code, "w" * 43).error == "invalid_grant"
    code = query_of(client.server.consent(link(client), "alice"))["code"]
    assert exchange(client, code).status == 200
    assert exchange(client, code).error == "invalid_grant"


def test_a_link_without_pkce_is_refused_where_it_is_required(any_client: Callable[..., Client]):
    strict, lax = any_client(), any_client(pkce_required=False)
    assert query_of(strict.server.consent(strict.authorize_url(SCOPE), "alice"))["error"] == "invalid_request"
    assert "code" in query_of(lax.server.consent(lax.authorize_url(SCOPE), "alice"))


def test_a_refresh_token_rotates_and_its_second_use_ends_everything(client: Client):
    first = redeem(client)
    second = refresh(client, first).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert api(client, second).status == 200
    assert refresh(client, first).error == "invalid_grant"
    assert refresh(client, second).error == "invalid_grant"
    assert api(client, second).status == 401
    assert client.grants() == []
    seen = [c["refresh_token_digest"] for c in client.refreshes()]
    assert (len(seen), len(set(seen))) == (3, 2)
    assert seen[0] == seen[1] == hashlib.sha256(first["refresh_token"].encode()).hexdigest()


def test_a_refresh_token_stays_where_the_client_says_so(any_client: Callable[..., Client]):
    client = any_client(rotates=False)
    tokens = redeem(client)
    assert [refresh(client, tokens).json()["refresh_token"] for _ in range(2)] == [tokens["refresh_token"]] * 2


def test_an_offline_scope_is_needed_where_the_client_says_so(any_client: Callable[..., Client]):
    client = any_client(offline_scope=True)
    assert "refresh_token" not in redeem(client)
    url = link(client, f"{SCOPE} offline_access", prompt="consent")
    assert "refresh_token" in exchange(client, query_of(client.server.consent(url, "alice"))["code"]).json()


def test_access_tokens_live_as_long_as_the_client_says(any_client: Callable[..., Client]):
    client = any_client(access_token_seconds=1)
    tokens = redeem(client)
    assert tokens["expires_in"] == 1
    wait_until(lambda: api(client, tokens).status == 401, what="the access token expires")
    assert refresh(client, tokens).status == 200


def test_revocation_of_the_refresh_token_ends_the_access_token_too(client: Client):
    tokens = redeem(client)
    assert client.post("/token/introspection", token=tokens["access_token"]).json()["active"] is True
    assert client.post("/token/revocation", token=tokens["refresh_token"]).status == 200
    assert client.post("/token/introspection", token=tokens["access_token"]).json() == {"active": False}
    assert api(client, tokens).status == 401
    assert refresh(client, tokens).error == "invalid_grant"
    assert [c["endpoint"] for c in client.calls("revocation")] == ["revocation"]


def test_the_owner_of_an_account_can_end_what_they_granted(any_client: Callable[..., Client]):
    client = any_client()
    alice, bob = redeem(client), redeem(client, "bob")
    assert client.revoke("alice") == [{"account": "alice", "scope": SCOPE}]
    assert refresh(client, alice).error == "invalid_grant"
    assert refresh(client, bob).status == 200
    assert [grant["account"] for grant in client.grants()] == ["bob"]


def test_a_wrong_secret_is_an_invalid_client(client: Client):
    client.secret = "another"
    answer = client.post("/token", grant_type="refresh_token", refresh_token="x")
    assert (answer.status, answer.error) == (401, "invalid_client")


def test_discovery_names_every_endpoint(authorization_server: AuthorizationServer):
    answer = plain.call("GET", f"{authorization_server.url}/.well-known/openid-configuration").json()
    assert answer["issuer"] == authorization_server.url
    paths = {name: answer[f"{name}_endpoint"] for name in ("authorization", "token", "revocation", "userinfo")}
    own = authorization_server.url
    assert paths == {
        "authorization": f"{own}/auth",
        "token": f"{own}/token",
        "revocation": f"{own}/token/revocation",
        "userinfo": f"{own}/me",
    }
    assert answer["code_challenge_methods_supported"] == ["S256"]
    assert answer["authorization_response_iss_parameter_supported"] is True


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"kind": "status", "status": 503, "retry_after": 7}, (503, "temporarily_unavailable", "7")),
        ({"kind": "status", "status": 429, "body": "<html>"}, (429, None, None)),
    ],
)
def test_a_fault_happens_once_and_leaves_the_token_alone(any_client: Callable[..., Client], fault: dict, told: tuple):
    client = any_client()
    tokens = redeem(client)
    client.fail(fault)
    answer = refresh(client, tokens)
    assert (answer.status, answer.error, answer.header("Retry-After")) == told
    assert refresh(client, tokens).status == 200
    assert [(c["fault"], c["status"]) for c in client.refreshes()] == [("status", None), ("none", 200)]


def test_a_fault_may_stay_until_it_is_over(any_client: Callable[..., Client]):
    client = any_client()
    tokens = redeem(client)
    client.fail({"kind": "status", "status": 503, "always": True})
    assert [refresh(client, tokens).status for _ in range(3)] == [503] * 3
    client.fail()
    assert refresh(client, tokens).status == 200


def test_a_slow_answer_comes_when_it_was_told_to(any_client: Callable[..., Client]):
    client = any_client()
    tokens = redeem(client)
    client.fail({"kind": "slow", "seconds": 0.3})
    started = time.monotonic()
    assert refresh(client, tokens).status == 200
    assert time.monotonic() - started >= 0.3


def test_a_dropped_connection_leaves_the_token_alone(any_client: Callable[..., Client]):
    client = any_client()
    tokens = redeem(client)
    client.fail({"kind": "drop"})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        refresh(client, tokens)
    assert refresh(client, tokens).status == 200


def test_a_lost_answer_has_consumed_the_token(any_client: Callable[..., Client]):
    client = any_client()
    tokens = redeem(client)
    client.fail({"kind": "lost"})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        refresh(client, tokens)
    assert refresh(client, tokens).error == "invalid_grant"
    other = redeem(client, "bob")
    client.fail({"kind": "lost_status", "status": 502})
    assert refresh(client, other).status == 502
    assert refresh(client, other).error == "invalid_grant"


def test_a_call_that_hangs_is_seen_before_it_ends(any_client: Callable[..., Client]):
    client = any_client()
    tokens = redeem(client)
    client.fail({"kind": "hang"})
    with pytest.raises(TimeoutError), plain.connect(client.server.url, timeout=0.5) as sock:
        body = f"grant_type=refresh_token&client_id={client.id}&refresh_token={tokens['refresh_token']}"
        head = "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        plain.read_answer(sock, "POST")
    assert [(c["fault"], c["status"]) for c in client.refreshes()] == [("hang", None)]
    assert refresh(client, tokens).status == 200


def test_more_grants_than_its_own_store_would_keep(any_client: Callable[..., Client]):
    """The store that comes with it forgets all but a thousand entries."""
    client = any_client()
    kept = redeem(client)
    other = redeem(client, "bob")

    def turn(tokens: dict, times: int) -> dict:
        for _ in range(times):
            tokens = refresh(client, tokens).json()
        return tokens

    with ThreadPoolExecutor(2) as pool:
        assert "refresh_token" in pool.submit(turn, other, 600).result()
    assert refresh(client, kept).status == 200


async def test_a_person_signs_in_and_consents_in_a_browser(any_client: Callable[..., Client], browsing: object):
    client = any_client()
    tab = await browsing.tab()
    await tab.route(re.compile(re.escape(REDIRECT_URI)), lambda route: route.fulfill(body="back"))
    await tab.goto(link(client, "openid email mail.read mail.send", prompt="consent"))
    assert await browsing.violations(tab) == []
    await tab.get_by_label("Account").fill("carol")
    await tab.get_by_role("button", name="Sign in").click()
    await tab.get_by_label("mail.send").uncheck()
    assert await browsing.violations(tab) == []
    await tab.get_by_role("button", name="Allow").click()
    await tab.wait_for_url(re.compile(re.escape(REDIRECT_URI)))
    tokens = exchange(client, query_of(tab.url)["code"]).json()
    assert tokens["scope"].split() == ["openid", "email", "mail.read"]
    assert api(client, tokens).json()["account"] == "carol"
    # Signed in now, so that only consent is asked for; and this time the answer is no.
    await tab.goto(link(client, "openid email calendar.read", prompt="consent"))
    await tab.get_by_role("button", name="Deny").click()
    await tab.wait_for_url(re.compile(re.escape(REDIRECT_URI)))
    assert query_of(tab.url)["error"] == "access_denied"
    assert json.dumps(client.grants()).count("carol") == 1
