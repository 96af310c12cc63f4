"""Cases 26, 30 and 58 for secrets that were stored with a template: what it says is what the provider gets, and only there.

The provider of these tests is on plain HTTP: templates of products that one runs oneself take its address as a field.
"""

from __future__ import annotations

import base64

import pytest
from alter_sdk import BlockedDestinationError

from harness import canary
from harness.world import ApiError, Secret, World


def stored(world: World, template: str, value: str | None = None, **more: object) -> Secret:
    value = value or canary.token()
    made = world.api("POST", "/managed-secrets", {"name": template, "template": template, "value": value, **more})
    assert made["template"] == template
    return Secret(made["id"], made["slug"], made["grant_id"], value)


def here(world: World, field: str, **fields: str) -> dict[str, str]:
    """The template's field for a host, naming the provider of the tests."""
    return {field: f"http://{world.services.provider.authority}", **fields}


async def call(world: World, secret: Secret):
    """One call of the client; what the provider saw of it."""
    async with world.vault() as app:
        answer = await app.request("GET", world.corner.url(), grant_id=secret.grant_id, query_params={"q": "1"})
    assert answer.status_code == 200
    return world.corner.seen[-1]


@pytest.mark.parametrize(
    ("template", "host", "header", "form"),
    [
        ("meilisearch", "host", "Authorization", "Bearer {}"),
        ("elasticsearch", "endpoint", "Authorization", "ApiKey {}"),
        ("influxdb", "host", "Authorization", "Token {}"),
        ("qdrant", "cluster_url", "api-key", "{}"),
        ("typesense", "host", "X-TYPESENSE-API-KEY", "{}"),
    ],
)
async def test_core_26_core_30_header_and_form(world: World, template: str, host: str, header: str, form: str):
    secret = stored(world, template, fields=here(world, host))
    seen = await call(world, secret)
    assert seen.header(header) == form.format(secret.value)
    assert seen.query == [("q", "1")]
    carriers = [name for name, value in seen.headers if secret.value in value]
    assert [name.lower() for name in carriers] == [header.lower()], "in one header and no other"


@pytest.mark.parametrize("template", ["couchdb", "opensearch"])
async def test_core_30_basic_auth_of_two_fields_or_of_one(world: World, template: str):
    password = canary.password()
    apart = stored(world, template, password, fields=here(world, "host", username="ann"))
    joined = stored(world, template, f"ann:{password}", fields=here(world, "host"))
    for secret in (apart, joined):
        scheme, _, encoded = (await call(world, secret)).header("authorization").partition(" ")
        assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", f"ann:{password}")


async def test_core_30_a_second_credential_goes_into_a_header_of_its_own(world: World):
    second = canary.token()
    hosts = [world.services.provider.authority]
    secret = stored(world, "datadog", fields={"application_key": second}, allowed_hosts=hosts)
    seen = await call(world, secret)
    assert (seen.header("dd-api-key"), seen.header("dd-application-key")) == (secret.value, second)
    assert seen.header("authorization") is None


async def test_core_30_a_query_parameter_beside_the_templates_header(world: World):
    injections = [
        {"target": "query_param", "key": "key", "value_source": "token"},
        {"target": "query_param", "key": "region", "value_source": "additional_credentials.region"},
    ]
    secret = stored(world, "meilisearch", fields=here(world, "host", region="eu"), injections=injections)
    seen = await call(world, secret)
    assert seen.header("authorization") == f"Bearer {secret.value}"
    assert dict(seen.query) == {"q": "1", "key": secret.value, "region": "eu"}


async def test_core_30_a_rotation_keeps_form_and_host(world: World):
    secret = stored(world, "elasticsearch", fields=here(world, "endpoint"))
    value = canary.token()
    world.api("POST", f"/managed-secrets/{secret.id}/rotate", {"value": value})
    assert (await call(world, secret)).header("authorization") == f"ApiKey {value}"
    elsewhere = {"value": canary.token(), "fields": {"endpoint": "http://127.0.0.1:9"}}
    with pytest.raises(ApiError) as error:
        world.api("POST", f"/managed-secrets/{secret.id}/rotate", elsewhere)
    assert error.value.status == 422
    assert (await call(world, secret)).header("authorization") == f"ApiKey {value}"


async def test_core_58_the_host_is_pinned_to_the_one_that_was_named(world: World):
    secret = stored(world, "meilisearch", fields=here(world, "host"))
    async with world.vault() as app:
        for url in (f"{world.services.tls_provider.url}/x", f"http://127.0.0.1:{world.services.closed_port}/x"):
            with pytest.raises(BlockedDestinationError):
                await app.request("GET", url, grant_id=secret.grant_id)
    assert world.corner.seen == []
    assert secret.value.encode() not in b"".join(e.answer.body for e in world.exchanges(path="/sdk/token"))


async def test_core_58_a_vendors_host_is_pinned_to_one_account(world: World):
    """Nothing is sent to the vendor: the server's answer says where the client may take the credential."""
    secret = stored(world, "shopify", fields={"store": "acme"})

    def release(host: str):
        target = world.token_body(secret.grant_id, f"https://{host}/admin/api/shop.json")
        return world.send(world.signed("POST", "/sdk/token", target))

    released = release("acme.myshopify.com")
    assert released.status == 200
    answer = released.json()
    assert (answer["injection_header"], answer["injection_format"]) == ("X-Shopify-Access-Token", "{token}")
    assert answer["access_token"] == secret.value
    for host in ("evil.myshopify.com", "myshopify.com", "acme.myshopify.com.example.com", "x.acme.myshopify.com"):
        refused = release(host)
        assert (refused.status, refused.error) == (422, "blocked_destination"), host
