"""How OAuth providers differ, as data: what `harness/quirky.py` plays.

One record says how a provider behaves every time; an act says what happens to one call alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# A token answer longer than this is nobody's.
TOO_LARGE_BYTES = 300_000

HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
GARBAGE = b"\x00\xff\xfe{]]=&%%%\x80" * 7


@dataclass(frozen=True)
class Quirks:
    """How a provider behaves; the default is a plain RFC 6749."""

    # The answer of the token endpoint.
    access_seconds: int = 3600
    expires_in: Literal["number", "text", "absent", "zero", "null"] = "number"
    format: Literal["json", "form", "form_called_json", "json_called_html"] = "json"
    failure: Literal["status", "in_200", "ok_false"] = "status"
    nested: str | None = None  # The tokens are in an object of this name.
    more: dict[str, Any] = field(default_factory=dict)  # Instance URL, workspace, second token …
    scope: Literal["as_granted", "absent", "comma", "list"] = "as_granted"
    refused_scopes: frozenset[str] = frozenset()  # Its users untick these.

    # What becomes of tokens.
    refresh: Literal["stable", "omitted", "single_use", "none", "exchange"] = "stable"
    grace_seconds: int = 0  # A spent refresh token still works for so long.
    reuse_ends_family: bool = False
    refresh_apart: bool = False  # Refreshes go to `/refresh`, and `/token` refuses them.
    new_access_ends_old: bool = False

    # What it wants.
    auth: Literal["basic", "post"] = "basic"
    body: Literal["form", "json", "query"] = "form"
    client_id: str = "client_id"  # What it calls it.
    pkce: Literal["required", "ignored", "refused"] = "required"
    user_agent: bool = False  # It refuses callers that do not name themselves.
    offline: tuple[str, str] | None = None  # The parameter of the link without which there is no refresh token.

    # What comes back with the code.
    callback: dict[str, str] = field(default_factory=dict)
    code_suffix: str = ""
    sends_iss: bool = False


@dataclass(frozen=True)
class Act:
    """What happens to one call of a token endpoint."""

    kind: Literal[
        "status", "slow", "hang", "close", "html", "garbage", "cut_off", "empty", "too_large", "error", "no_token"
    ]
    # The call is carried out, and only its answer is lost or spoilt.
    after: bool = False
    always: bool = False  # And to all that follow.
    status: int = 200
    seconds: float = 0.0
    retry_after: str | None = None
    code: str = ""  # Of `error`.


# The behaviours that providers are known for, each under the name of one that has it.
BEHAVIOURS: dict[str, Quirks] = {
    "plain": Quirks(),
    "google": Quirks(auth="post", refresh="omitted", offline=("access_type", "offline")),
    "github": Quirks(auth="post", format="form", failure="in_200", refresh="none", expires_in="absent", scope="comma"),
    "slack": Quirks(
        auth="post",
        failure="ok_false",
        pkce="ignored",
        refresh="single_use",
        scope="comma",
        more={"ok": True, "team": {"id": "T1"}, "authed_user": {"id": "U1", "access_token": "not-this"}},
    ),
    "nested": Quirks(nested="authed_user", failure="ok_false", more={"ok": True}),
    "salesforce": Quirks(auth="post", expires_in="absent", more={"instance_url": "https://acme.example.test"}),
    "gitlab": Quirks(auth="post", refresh="single_use", reuse_ends_family=True, new_access_ends_old=True),
    "xero": Quirks(refresh="single_use", grace_seconds=60),
    "airtable": Quirks(refresh="single_use", reuse_ends_family=True, expires_in="text"),
    "spotify": Quirks(refresh="omitted"),
    "figma": Quirks(refresh="omitted", refresh_apart=True),
    "instagram": Quirks(
        auth="post", refresh="exchange", expires_in="absent", pkce="ignored", scope="absent", code_suffix="#_"
    ),
    "tiktok": Quirks(auth="post", client_id="client_key", failure="in_200", refresh="single_use", scope="comma"),
    "notion": Quirks(body="json", pkce="ignored", refresh="none", expires_in="absent", scope="absent"),
    "quickbooks": Quirks(refresh="single_use", grace_seconds=86_400, callback={"realmId": "913"}),
    "reddit": Quirks(user_agent=True, offline=("duration", "permanent")),
    "zendesk": Quirks(auth="post", expires_in="null", refresh="single_use"),
    "linkedin": Quirks(auth="post", pkce="refused", refresh="none"),
    "clickup": Quirks(auth="post", body="query", pkce="ignored", refresh="none", expires_in="zero", scope="absent"),
    "mislabelled": Quirks(format="json_called_html", scope="list", sends_iss=True),
    "form_called_json": Quirks(format="form_called_json", expires_in="text"),
}
