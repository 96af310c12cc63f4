"""Strict schemas of every answer that the server gives to the client, written from the protocol's tables.

They are stricter than the client: an answer that passes here cannot trigger any of the client's refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.http import Answer

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,59}")
INJECTION_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
SOURCE = re.compile(r"token|additional_credentials\.[a-z0-9_]+")
FORBIDDEN_HEADERS = frozenset(
    """host content-length content-type transfer-encoding connection keep-alive upgrade proxy-authenticate
    proxy-authorization te trailer cookie set-cookie x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip
    x-http-method-override x-method-override www-authenticate strict-transport-security
    content-security-policy""".split()
)


class Violation(AssertionError):
    pass


def need(condition: object, what: str, value: object = None) -> None:
    if not condition:
        raise Violation(f"{what}: {value!r}" if value is not None else what)


def text(value: object, what: str, *, most: int | None = None, empty: bool = False) -> None:
    need(isinstance(value, str), f"{what} is a string", value)
    need(empty or value, f"{what} is not empty")
    need(most is None or len(value) <= most, f"{what} has at most {most} characters", value)


def credential(value: object, what: str, most: int | None = None) -> None:
    text(value, what, most=most)
    need(value.strip() and not set(value) & set("\r\n\0"), f"{what} is not blank and has no CR, LF or NUL")


def integer(value: object, what: str, least: int = 0) -> None:
    need(type(value) is int and value >= least, f"{what} is an integer of at least {least}", value)


def boolean(value: object, what: str) -> None:
    need(type(value) is bool, f"{what} is a boolean", value)


def uuid(value: object, what: str) -> None:
    need(isinstance(value, str) and UUID.fullmatch(value), f"{what} is a lower-case dashed UUID of version 7", value)


def moment(value: object, what: str) -> None:
    need(isinstance(value, str) and TIME.fullmatch(value), f"{what} is RFC 3339 with Z", value)


def strings(value: object, what: str) -> None:
    need(isinstance(value, list), f"{what} is a list", value)
    for item in value:
        need(isinstance(item, str) and item and item == item.strip(), f"{what} holds trimmed strings", value)


def or_null(check: Callable, *arguments: object, **named: object) -> Callable[[object, str], None]:
    return lambda value, what: None if value is None else check(value, what, *arguments, **named)


def keys(value: object, what: str, required: set[str], optional: set[str] = frozenset()) -> None:
    need(isinstance(value, dict), f"{what} is an object", value)
    need(required <= value.keys(), f"{what} lacks {sorted(required - value.keys())}")
    need(value.keys() <= required | optional, f"{what} has unknown {sorted(value.keys() - required - optional)}")


TOKEN_FIELDS = set(
    """access_token grant_id provider_id token_type expires_in expires_at scopes token_generation scope_mismatch
    injection_header injection_format additional_credentials additional_injections""".split()
)


def token(value: object) -> None:
    """`POST /sdk/token`. Old clients are promised every field."""
    keys(value, "token answer", TOKEN_FIELDS, {"retry_info", "token_expires_at", "grant_expires_at"})
    credential(value["access_token"], "access_token")
    uuid(value["grant_id"], "grant_id")
    text(value["provider_id"], "provider_id", most=255, empty=True)
    need(value["provider_id"] == value["provider_id"].strip(), "provider_id has no outer blanks")
    need(value["provider_id"].isprintable(), "provider_id has no control characters")
    text(value["token_type"], "token_type", most=255)
    need(value["token_type"].strip(), "token_type is not blank")
    or_null(integer)(value["expires_in"], "expires_in")
    or_null(moment)(value["expires_at"], "expires_at")
    strings(value["scopes"], "scopes")
    or_null(uuid)(value["token_generation"], "token_generation")
    boolean(value["scope_mismatch"], "scope_mismatch")
    header = value["injection_header"]
    need(isinstance(header, str) and HEADER_NAME.fullmatch(header), "injection_header is a header name", header)
    need(header.lower() not in FORBIDDEN_HEADERS, "injection_header is not a forbidden name", header)
    form = value["injection_format"]
    credential(form, "injection_format", 200)
    signed = form.startswith("AWS4-HMAC-SHA256")
    need(signed or "{token}" in form, "injection_format has a place for the token", form)
    extra = value["additional_credentials"]
    if extra is not None:
        need(isinstance(extra, dict) and len(extra) <= 10, "additional_credentials is an object of at most 10")
        for name, secret in extra.items():
            text(name, "name of an additional credential", most=50)
            credential(secret, f"additional_credentials.{name}", 8192)
    if signed:
        need(extra and "secret_key" in extra, "a SigV4 answer carries the secret key")
    injections = value["additional_injections"]
    if injections is not None:
        need(isinstance(injections, list) and len(injections) <= 10, "additional_injections is a list of at most 10")
        for item in injections:
            keys(item, "additional injection", {"target", "key", "value_source"})
            need(item["target"] in ("header", "query_param"), "target is header or query_param", item)
            need(INJECTION_KEY.fullmatch(item["key"]), "key of an injection", item)
            need(
                item["target"] != "header" or item["key"].lower() not in FORBIDDEN_HEADERS,
                "an injected header is not a forbidden name",
                item,
            )
            source = item["value_source"]
            need(len(source) <= 100 and SOURCE.fullmatch(source), "value_source of an injection", item)
            name = source.partition(".")[2]
            need(not name or name in (extra or {}), "an injection names a credential that is there", item)
    if "retry_info" in value and value["retry_info"] is not None:
        info = value["retry_info"]
        keys(info, "retry_info", {"total_attempts", "successful_attempt", "errors"})
        integer(info["total_attempts"], "total_attempts", 1)
        integer(info["successful_attempt"], "successful_attempt")


GRANT_REQUIRED = set(
    """grant_kind grant_id managed_secret_id managed_secret_slug managed_secret_name status created_at
    principal_type""".split()
)
GRANT_OPTIONAL = set(
    """agent_id label account_identifier grant_policy expires_at grant_expires_at last_used_at access_via delegated_at
    parent_grant_id depth delegable scope_constraint credential_id credential_kind credential_label""".split()
)


OAUTH_GRANT_REQUIRED = set("grant_kind grant_id provider_id scopes account_identifier status created_at".split())
OAUTH_GRANT_OPTIONAL = set(
    """account_display_name api_base_url scope_mismatch needs_reconnect expires_at grant_expires_at last_used_at
    principal_type access_via delegated_at delegated_agent_ids label credential_id grant_policy parent_grant_id depth
    delegable scope_constraint""".split()
)


def oauth_grant_item(item: dict) -> None:
    keys(item, "grant", OAUTH_GRANT_REQUIRED, OAUTH_GRANT_OPTIONAL)
    need(item.get("principal_type", "system") in ("user", "system", "agent"), "principal_type", item["principal_type"])
    need(item["status"] in ("active", "expired", "revoked"), "status", item["status"])
    uuid(item["grant_id"], "grant_id")
    text(item["provider_id"], "provider_id", most=255)
    strings(item["scopes"], "scopes")
    or_null(text)(item["account_identifier"], "account_identifier")
    moment(item["created_at"], "created_at")
    for name in ("expires_at", "grant_expires_at", "last_used_at", "delegated_at"):
        or_null(moment)(item.get(name), name)
    for name in ("parent_grant_id", "credential_id"):
        or_null(uuid)(item.get(name), name)
    for name in ("label", "account_display_name", "api_base_url"):
        or_null(text)(item.get(name), name)
    for name in ("scope_mismatch", "needs_reconnect", "delegable"):
        boolean(item.get(name, False), name)
    integer(item.get("depth", 0), "depth")


def grant_item(item: object) -> None:
    """One grant of a page."""
    if isinstance(item, dict) and item.get("grant_kind") == "oauth":
        oauth_grant_item(item)
        return
    keys(item, "grant", GRANT_REQUIRED, GRANT_OPTIONAL)
    need(item["grant_kind"] == "managed_secret", "grant_kind", item["grant_kind"])
    need(item["principal_type"] in ("user", "group", "system", "agent"), "principal_type", item["principal_type"])
    need(item["status"] in ("active", "expired", "revoked"), "status", item["status"])
    for name in ("grant_id", "managed_secret_id"):
        uuid(item[name], name)
    for name in ("managed_secret_slug", "managed_secret_name"):
        text(item[name], name)
    moment(item["created_at"], "created_at")
    for name in ("expires_at", "grant_expires_at", "last_used_at", "delegated_at"):
        or_null(moment)(item.get(name), name)
    for name in ("agent_id", "parent_grant_id", "credential_id"):
        or_null(uuid)(item.get(name), name)
    for name in ("label", "account_identifier", "credential_label"):
        or_null(text)(item.get(name), name)
    need(item.get("access_via", "ownership") in ("ownership", "ms_delegation"), "access_via", item.get("access_via"))
    need(item.get("credential_kind") in (None, "developer", "end_user"), "credential_kind", item.get("credential_kind"))
    integer(item.get("depth", 0), "depth")
    boolean(item.get("delegable", False), "delegable")
    or_null(strings)(item.get("scope_constraint"), "scope_constraint")
    need(isinstance(item.get("grant_policy"), dict | None), "grant_policy is an object or null")


def grant_list(value: object) -> None:
    keys(value, "page of grants", {"grants", "total", "limit", "offset", "has_more"})
    need(isinstance(value["grants"], list), "grants is a list")
    for item in value["grants"]:
        grant_item(item)
    for name in ("total", "offset"):
        integer(value[name], name)
    integer(value["limit"], "limit", 1)
    boolean(value["has_more"], "has_more")
    need(len(value["grants"]) <= value["limit"], "a page is not longer than its limit")


def revoked(value: object) -> None:
    keys(value, "revoke answer", {"success", "message", "grant_id", "revoked_at"})
    need(value["success"] is True, "success is true")
    text(value["message"], "message")
    uuid(value["grant_id"], "grant_id")
    moment(value["revoked_at"], "revoked_at")


def created_grant(value: object) -> None:
    keys(value, "new grant", {"grant_id", "principal_type", "label", "created_at"}, {"credential_id"})
    uuid(value["grant_id"], "grant_id")
    need(value["principal_type"] in ("user", "group", "system"), "principal_type", value["principal_type"])
    or_null(text, most=255)(value["label"], "label")
    moment(value["created_at"], "created_at")
    or_null(uuid)(value.get("credential_id"), "credential_id")


MINTED_REQUIRED = {"grant_id", "provider_id", "status", "created_at", "principal_type"}
MINTED_OPTIONAL = set(
    """scopes account_identifier account_display_name api_base_url scope_mismatch expires_at last_used_at label
    credential_id grant_policy""".split()
)


def minted_grant(value: object) -> None:
    keys(value, "minted grant", MINTED_REQUIRED, MINTED_OPTIONAL)
    for name in ("grant_id", "credential_id"):
        uuid(value.get(name), name)
    text(value["provider_id"], "provider_id")
    need(value["status"] in ("active", "expired", "revoked"), "status", value["status"])
    need(value["principal_type"] in ("user", "system"), "principal_type", value["principal_type"])
    for name in ("created_at", "expires_at", "last_used_at"):
        or_null(moment)(value.get(name), name)
    strings(value.get("scopes", []), "scopes")
    for name in ("account_identifier", "account_display_name", "api_base_url", "label"):
        or_null(text)(value.get(name), name)
    boolean(value.get("scope_mismatch", False), "scope_mismatch")


def connect_session(value: object) -> None:
    required = {"session_token", "connect_url", "expires_in", "expires_at"}
    keys(value, "connect session", required, {"scope_constraint_warnings", "single_provider", "direct"})
    text(value["session_token"], "session_token")
    text(value["connect_url"], "connect_url")
    integer(value["expires_in"], "expires_in")
    moment(value["expires_at"], "expires_at")
    for name in ("single_provider", "direct"):
        boolean(value.get(name, False), name)


def key_session(value: object) -> None:
    more = {"path", "existing_grant_id", "direct", "secret_slug", "template_slug", "agent_id", "delegable_requested"}
    keys(value, "session for a key", {"session_token", "connect_url", "expires_in", "expires_at"} | more)
    for name in ("session_token", "connect_url", "secret_slug"):
        text(value[name], name)
    integer(value["expires_in"], "expires_in")
    moment(value["expires_at"], "expires_at")
    need(value["path"] in (None, "fast_path", "key_entry", "repair"), "path", value["path"])
    need((value["existing_grant_id"] is None) == (value["path"] in (None, "key_entry")), "the grant of its path", value)
    for name in ("existing_grant_id", "agent_id"):
        or_null(uuid)(value[name], name)
    or_null(text)(value["template_slug"], "template_slug")
    for name in ("direct", "delegable_requested"):
        boolean(value[name], name)


CONNECT_FIELDS = {"pending": set(), "completed": {"grants"}, "error": {"error"}, "expired": set()}
CONNECT_MORE = {"pending": {"declined_providers"}, "completed": {"failed_grants"}}


def connect_poll(value: object) -> None:
    need(isinstance(value, dict) and value.get("status") in CONNECT_FIELDS, "status is a known one", value)
    status = value["status"]
    keys(value, f"a poll that is {status}", {"status"} | CONNECT_FIELDS[status], CONNECT_MORE.get(status, set()))
    for item in value.get("declined_providers", []):
        keys(item, "a declined provider", {"provider_id", "error_code"}, {"declined_at"})
        text(item["provider_id"], "provider_id")
        text(item["error_code"], "error_code")
        or_null(moment)(item.get("declined_at"), "declined_at")
    for item in value.get("grants", []):
        connected_grant(item)
    for item in value.get("failed_grants", []):
        keys(item, "a failed grant", {"provider_id", "reason", "message"})
        for name in ("provider_id", "reason", "message"):
            text(item[name], name)
    if status == "error":
        keys(value["error"], "error", {"error_code", "error_message"}, {"retry_after_seconds"})
        for name in ("error_code", "error_message"):
            text(value["error"][name], name)
            need(value["error"][name].strip(), f"{name} is not blank")


def connected_grant(item: object) -> None:
    more = {"account_identifier", "account_display_name", "api_base_url", "operation", "grant_policy", "delegation"}
    keys(item, "a connected grant", {"grant_id", "provider_id", "scopes"}, more)
    uuid(item["grant_id"], "grant_id")
    text(item["provider_id"], "provider_id")
    strings(item["scopes"], "scopes")
    for name in ("account_identifier", "account_display_name", "api_base_url"):
        or_null(text)(item.get(name), name)
    need(item.get("operation", "creation") in ("creation", "reauth"), "operation", item.get("operation"))
    need(isinstance(item.get("grant_policy"), dict | None), "grant_policy is an object or null")
    need(item.get("delegation") is None, "delegation is null without agents")


def scope_catalogue(value: object) -> None:
    keys(value, "scope catalogue", {"scope_version", "resources", "action_verbs"}, {"deprecated"})
    integer(value["scope_version"], "scope_version", 1)
    need(isinstance(value["resources"], dict), "resources is an object")
    for name, resource in value["resources"].items():
        keys(resource, f"resource {name}", {"verbs"})
        strings(resource["verbs"], f"verbs of {name}")
    strings(value["action_verbs"], "action_verbs")
    if "deprecated" in value:
        strings(value["deprecated"], "deprecated")


def provider_catalogue(value: object) -> None:
    keys(value, "provider catalogue", {"providers"})
    need(isinstance(value["providers"], dict) and value["providers"], "providers is an object")
    for name, provider in value["providers"].items():
        lists = {"default_scopes", "required_scopes"}
        texts = {"id", "name", "display_name", "status"}
        flags = {"supports_refresh", "supports_pkce"}
        keys(provider, name, texts | lists | flags | {"available_scopes"}, {"category", "description", "logo_url"})
        for field in texts:
            text(provider[field], f"{field} of {name}")
        need(provider["id"] == name and provider["status"] == "active", f"id and status of {name}", provider)
        need(all(isinstance(provider[flag], bool) for flag in flags), f"flags of {name}", provider)
        for field in lists:
            strings(provider[field], f"{field} of {name}")
            need(
                set(provider[field]) <= set(provider["available_scopes"]), f"{field} of {name} are available", provider
            )
        for scope, of in provider["available_scopes"].items():
            keys(of, f"scope {scope}", {"description", "required", "is_default", "requires"})
            text(of["description"], f"description of {scope}")
            need(isinstance(of["required"], bool) and isinstance(of["is_default"], bool), f"flags of {scope}", of)
            strings(of["requires"], f"requires of {scope}")


# Status -> the codes it may come with on /sdk.
CODES = {
    400: """restricted_grant_requires_proxy delegated_grant_requires_proxy hitl_grant_requires_proxy
        user_limits_require_proxy invalid_request invalid_context invalid_caller invalid_request_rule
        constraint_not_narrowing caller_agent_mismatch me_requires_agent_key scope_not_allowed
        invalid_redirect_uri invalid_origin""",
    401: """invalid_key key_revoked key_expired key_rotated_grace_expired key_not_active agent_inactive agent_revoked
        jwt_validation_error signature_invalid timestamp_out_of_range nonce_replayed content_hash_mismatch""",
    403: """insufficient_scope grant_expired grant_revoked credential_revoked grant_not_delegable scope_mismatch
        step_up_required redact_discharge_failed policy_denied policy_error ip_not_allowed outside_allowed_hours
        grant_restricted group_required tenant_mismatch app_key_required agent_key_required use_self_revoke_path
        agents_cannot_mint agent_cannot_mint_subagents system_grant_user_token_mismatch agent_scope_not_allowed""",
    404: "grant_not_found no_delegated_grant caller_agent_unresolved agent_not_found secret_not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: """ambiguous_grant token_refresh_in_progress sibling_label_conflict conflict credential_id_required
        credential_destroyed end_user_credential_not_assignable binding_hosts_required no_eligible_grants
        idp_signin_not_configured""",
    410: "grant_deleted",
    413: "body_too_large",
    415: "encoding_unsupported",
    422: """blocked_destination invalid_value too_many group_principal_unsupported invalid_grant_policy
        invalid_audience secret_template_mismatch""",
    429: "rate_limit_exceeded quota_exceeded too_many_pending_approvals",
    431: "headers_too_large",
    500: "internal",
    501: "unknown_route feature_unavailable",
    502: "token_endpoint_failed",
    503: """storage_unavailable audit_unavailable busy draining clock_rollback key_unavailable
        caller_agent_resolution_error provider_breaker_open""",
}


def auth_session(value: object) -> None:
    need(isinstance(value, dict), "a sign-in is an object", value)
    text(value.get("session_token"), "session_token")
    text(value.get("auth_url"), "auth_url")
    integer(value.get("expires_in"), "expires_in")
    moment(value.get("expires_at"), "expires_at")


def auth_poll(value: object) -> None:
    need(isinstance(value, dict), "a poll is an object", value)
    status = value.get("status")
    need(status in ("pending", "completed", "error", "expired"), "status", value)
    if status == "completed":
        text(value.get("user_token"), "user_token")
        text(value["user_info"].get("sub"), "sub")
        for name in ("email", "name"):
            or_null(text)(value["user_info"].get(name), name)
    if status == "error":
        text(value.get("error_code"), "error_code")
        text(value.get("error_message"), "error_message")
        if "retry_after_seconds" in value:
            integer(value["retry_after_seconds"], "retry_after_seconds")


def verified_token(value: object) -> None:
    need(isinstance(value, dict) and set(value) == {"sub"}, "nothing but whose it is", value)
    text(value["sub"], "sub")


def identity(value: object) -> None:
    need(isinstance(value, dict), "an identity is an object", value)
    uuid(value.get("app_id"), "app_id")
    for name in ("app_user_id", "idp_id", "agent_id", "actor_id"):
        or_null(uuid)(value.get(name), name)
    for name in ("external_subject_id", "email", "display_name"):
        or_null(text)(value.get(name), name)
    need(value.get("user_status") in (None, "active", "suspended"), "user_status", value)
    strings(value.get("group_ids"), "group_ids")
    trace = value.get("trace")
    if trace is not None:
        need(set(trace) == {"run_id", "thread_id"}, "trace", trace)
        for name, each in trace.items():
            or_null(text)(each, name)


def assertion(value: object) -> None:
    need(isinstance(value, dict), "an assertion is an object", value)
    text(value.get("token"), "token")
    moment(value.get("expires_at"), "expires_at")
    identity(value.get("identity"))


def error(status: int, value: object) -> None:
    need(isinstance(value, dict), "an error is an object", value)
    need("detail" not in value, "the flat form of an error is used", value)
    code = value.get("error")
    need(status in CODES, "the status is a documented one", status)
    need(code in CODES[status].split(), f"the code is a documented one of {status}", value)
    text(value.get("message"), "message")
    if "hint" in value:
        text(value["hint"], "hint")
    if "details" in value:
        need(isinstance(value["details"], dict), "details is an object", value)
    if code == "insufficient_scope":
        for name in ("required", "granted", "missing"):
            strings(value.get(name), name)
        need(value["missing"], "something is missing")
        for name in ("scope_version", "current_scope_version"):
            integer(value.get(name), name, 1)
        for name in ("scope_version_mismatch", "required_any_of"):
            boolean(value.get(name), name)
        text(value.get("documentation_url"), "documentation_url")
    if code == "rate_limit_exceeded":
        integer(value.get("retry_after"), "retry_after", 0)
        need(value.get("scope") in ("ip", "api_key", "organization"), "scope", value.get("scope"))
        integer(value.get("limit"), "limit", 1)
        integer(value.get("window_seconds"), "window_seconds", 1)
    if code == "grant_revoked":
        uuid(value.get("grant_id"), "grant_id")
    if code in ("grant_expired", "grant_not_found"):
        for name in ("provider_id", "agent_id", "app_user_id"):
            or_null(text)(value.get(name), name)
    if code == "tenant_mismatch":
        need(set(value.get("details", {})) <= {"tenant_key", "key"}, "tenant_mismatch names the key and nothing else")


ROUTES: tuple[tuple[str, re.Pattern[str], Callable | None, set[int]], ...] = (
    ("POST", re.compile(r"/sdk/token"), token, {200}),
    ("POST", re.compile(r"/sdk/grants/list"), grant_list, {200}),
    ("POST", re.compile(r"/sdk/oauth/grants/[^/]+/revoke"), revoked, {200}),
    ("POST", re.compile(r"/sdk/managed-secrets/[^/]+/grants"), created_grant, {201}),
    ("POST", re.compile(r"/sdk/grants/[^/]+/mint"), minted_grant, {200, 201}),
    ("GET", re.compile(r"/sdk/scopes"), scope_catalogue, {200}),
    ("GET", re.compile(r"/sdk/oauth/provider-catalog"), provider_catalogue, {200}),
    ("POST", re.compile(r"/sdk/oauth/audit/api-call"), None, {200, 202, 204}),
    ("POST", re.compile(r"/sdk/grants/[^/]+/report-scope-mismatch"), None, {204}),
    ("POST", re.compile(r"/sdk/oauth/connect/session"), connect_session, {200, 201}),
    ("POST", re.compile(r"/sdk/oauth/connect/session/poll"), connect_poll, {200}),
    ("POST", re.compile(r"/sdk/managed-secrets/connect/session"), key_session, {201}),
    ("POST", re.compile(r"/sdk/auth/session"), auth_session, {201}),
    ("POST", re.compile(r"/sdk/auth/poll"), auth_poll, {200}),
    ("POST", re.compile(r"/sdk/auth/verify-token"), verified_token, {200}),
    ("POST", re.compile(r"/sdk/identity/resolve"), identity, {200}),
    ("POST", re.compile(r"/sdk/identity/assert"), assertion, {200}),
)


def answer(method: str, path: str, got: Answer) -> None:
    """Judges one answer of a signed route: status, headers and body."""
    path = path.partition("?")[0]
    where = f"{method} {path} -> {got.status}"
    need(got.header("location") is None, f"{where}: no redirect")
    need(not 300 <= got.status < 400, f"{where}: no redirect")
    actor = got.header("x-alter-actor-id")
    if actor is not None:
        uuid(actor, "X-Alter-Actor-ID")
    limits = [got.header(f"x-ratelimit-{n}") for n in ("limit", "remaining", "reset")]
    need(all(limits) or not any(limits), f"{where}: all three rate limit headers or none", limits)
    for number in [*filter(None, limits), *filter(None, [got.header("retry-after")])]:
        need(number.isascii() and number.isdigit(), f"{where}: digits only", number)
    if got.status == 503:
        need(got.header("retry-after"), f"{where}: 503 says when to come back")
    kind = (got.header("content-type") or "").partition(";")[0]
    if got.status >= 400:
        need(kind == "application/json", f"{where}: errors are JSON", kind)
        error(got.status, got.json())
        return
    for verb, pattern, check, statuses in ROUTES:
        if verb == method and pattern.fullmatch(path):
            need(got.status in statuses, f"{where}: status is one of {sorted(statuses)}")
            need(got.status != 204 or not got.body, f"{where}: 204 has no body")
            if check:
                need(kind == "application/json", f"{where}: JSON", kind)
                check(got.json())
            return
    raise Violation(f"{where}: a success on a route without a schema")
