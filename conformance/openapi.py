"""Holds the management API against its document: schemathesis makes calls up from it, and looks at every answer.

`cargo xtask openapi` runs this against `grantd dev`, whose line of JSON comes on standard input. Ids that are made up name nothing,
so the server gets an object of each kind first, and one for each operation that ends it. At the end every operation must have
succeeded at least once.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

# The same calls every time.
SEED = "1"
# Calls made up for each operation at least, beside those from the document's bounds and examples.
EXAMPLES_MAX = "15"
# The whole run ends after this.
SECONDS_MAX = "90"
# No answer of 500 or more, and none that the document does not know.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# `grantd_http_request_duration_seconds_count{method="GET",route="/api/v1/apps/{}",outcome="ok"} 3`
ANSWERED = re.compile(
    r'^grantd_http_request_duration_seconds_count\{method="(\w+)",route="([^"]+)",outcome="ok"\} (\d+)$', re.MULTILINE
)


class Vault:
    """A running `grantd dev`."""

    def __init__(self, ready: dict) -> None:
        self.url, self.pat, self.app = ready["base_url"], ready["pat"], ready["app_id"]
        self.demo = ready["demo_url"]

    def fetch(self, path: str, method: str = "GET", value: object = None, token: str | None = None) -> bytes:
        body = None if value is None else json.dumps(value).encode()
        headers = {"Authorization": f"Bearer {token or self.pat}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def make(self, path: str, **value: object) -> dict:
        return json.loads(self.fetch(f"/api/v1{path}", "POST", value))

    def succeeded(self) -> dict[tuple[str, str], int]:
        """How often each route answered below 400."""
        found = ANSWERED.findall(self.fetch("/metrics").decode())
        return {(method, route): int(count) for method, route, count in found}


def seed(vault: Vault) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Objects of each kind: those that all operations use, and those of operations that would end them."""
    app = f"/apps/{vault.app}"

    def secret(name: str) -> dict:
        fields = {"host": vault.demo}
        return vault.make(f"{app}/managed-secrets", name=name, template="meilisearch", value="example", fields=fields)

    def key(name: str) -> str:
        return vault.make(f"{app}/keys", name=name)["id"]

    def provider(name: str) -> str:
        return vault.make(f"{app}/providers", provider=name, client_id="example")["id"]

    def operator(name: str) -> str:
        return vault.make("/operators", email=f"{name}@example.com", role="developer")["id"]

    def token(name: str) -> str:
        return vault.make("/tokens", name=name)["id"]

    def other_app(name: str, *, archived: bool = False) -> str:
        made = vault.make("/apps", name=name)["id"]
        if archived:
            vault.make(f"/apps/{made}/archive")
        return made

    def idp(name: str, preset: str = "oidc") -> str:
        issuer = f"https://{name}.example.com"
        fields = {"issuer": issuer, "audiences": ["a"], "jwks_url": f"{issuer}/keys"}
        return vault.make(f"{app}/identity-providers", preset=preset, **fields)["id"]

    def hooked(name: str) -> str:
        made = idp(name, "auth0")
        vault.make(f"{app}/identity-providers/{made}/webhook")
        return made

    # Users and groups come from their directory.
    told = idp("told")
    directory = vault.make(f"{app}/identity-providers/{told}/scim")["token"]
    for name in ("ada", "bob", "eve"):
        user = {"userName": name, "externalId": name}
        vault.fetch(f"/scim/v2/{told}/Users", "POST", user, directory)
    vault.fetch(f"/scim/v2/{told}/Groups", "POST", {"displayName": "Sales"}, directory)
    users = [user["id"] for user in json.loads(vault.fetch(f"/api/v1{app}/users"))["items"]]
    [group] = json.loads(vault.fetch(f"/api/v1{app}/groups"))["items"]
    disabled = idp("disabled")
    vault.make(f"{app}/identity-providers/{disabled}/scim")

    # With the provider that the document's examples name.
    emptied = other_app("emptied")
    vault.make(f"/apps/{emptied}/providers", provider="google", client_id="example")
    kept = secret("Kept")
    registered = provider("github")
    session = vault.make(f"{app}/connect-sessions", allowed_providers=["github"])["id"]
    [event] = json.loads(vault.fetch(f"/api/v1{app}/audit/events?limit=1"))["items"]
    [organization_event] = json.loads(vault.fetch("/api/v1/audit/events?limit=1"))["items"]
    for_all = {
        "app_id": vault.app,
        "secret": kept["slug"],
        "grant_id": kept["grant_id"],
        "key_id": key("kept"),
        "provider": registered,
        "event_id": event["id"],
        "operator_id": operator("kept"),
        "token_id": token("kept"),
        "template_id": "shopify",
        "session_id": session,
        "identity_provider_id": told,
        "user_id": users[0],
        "group_id": group["id"],
    }
    for_one = {
        "showOrganizationEvent": {"event_id": organization_event["id"]},
        "testSecret": {"secret": secret("Tested")["slug"]},
        "deleteIdentityProvider": {"identity_provider_id": idp("deleted")},
        "enableScim": {"identity_provider_id": idp("enabled")},
        "disableScim": {"identity_provider_id": disabled},
        "showIdpWebhook": {"identity_provider_id": hooked("hooked")},
        "enableIdpWebhook": {"identity_provider_id": idp("unhooked", "auth0")},
        "rotateIdpWebhook": {"identity_provider_id": hooked("rehooked")},
        "disableIdpWebhook": {"identity_provider_id": hooked("dehooked")},
        "deprovisionUser": {"user_id": users[1]},
        "suspendUser": {"user_id": users[2]},
        "deleteProvider": {"provider": provider("slack")},
        "deleteSecret": {"secret": secret("Deleted")["slug"]},
        "revokeGrants": {"app_id": emptied},
        "beginConnectSession": {"app_id": emptied},
        "revokeGrant": {"grant_id": secret("Revoked")["grant_id"]},
        "revokeKey": {"key_id": key("revoked")},
        "rotateKey": {"key_id": key("rotated")},
        "revokeToken": {"token_id": token("revoked")},
        "updateOperator": {"operator_id": operator("updated")},
        "archiveApp": {"app_id": other_app("archived")},
        "unarchiveApp": {"app_id": other_app("unarchived", archived=True)},
        # Elsewhere a legal hold may stand in the way.
        "eraseEvents": {"app_id": other_app("erased")},
        "deleteApp": {"app_id": other_app("deleted", archived=True)},
    }
    return for_all, for_one


def config(vault: Vault, for_all: dict[str, str], for_one: dict[str, dict[str, str]]) -> str:
    """TOML; every text in it is one that JSON writes the same way."""

    def lines(ids: dict[str, str]) -> list[str]:
        return [f'"path.{name}" = {json.dumps(value)}' for name, value in ids.items()]

    text = ["[headers]", f'Authorization = "Bearer {vault.pat}"', "[parameters]", *lines(for_all)]
    for operation, ids in for_one.items():
        text += ["[[operations]]", f'include-operation-id = "{operation}"', "[operations.parameters]", *lines(ids)]
    return "\n".join(text) + "\n"


def main() -> None:
    directory = Path(sys.argv[1])
    vault = Vault(json.load(sys.stdin))
    (directory / "schemathesis.toml").write_text(config(vault, *seed(vault)))
    before = vault.succeeded()
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "run", f"{vault.url}/api/v1/openapi.json", "--checks", CHECKS, "--no-color", "--warnings", "off"]
    command += ["--phases", "examples,coverage,fuzzing", "--seed", SEED, "--max-examples", EXAMPLES_MAX]
    command += ["--max-time", SECONDS_MAX]
    if subprocess.run(command, cwd=directory, check=False).returncode:
        sys.exit("the API and its document differ: see above")
    after = vault.succeeded()
    document = json.loads(vault.fetch("/api/v1/openapi.json"))
    routes = [
        (method.upper(), re.sub(r"\{\w+\}", "{}", path), operation["operationId"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        # The document itself, which is read here, is not counted.
        if isinstance(operation, dict) and operation.get("operationId") not in (None, "showOpenapi")
    ]
    never = [name for method, route, name in routes if after.get((method, route), 0) <= before.get((method, route), 0)]
    if never:
        sys.exit(f"never succeeded, so their answers were not seen: {', '.join(never)}")
    print(f"each of the {len(routes)} operations succeeded at least once")


if __name__ == "__main__":
    main()
