"""Cases 101 to 103: AWS credentials through `request()` and boto3; S3 and STS verify each signature."""

from __future__ import annotations

import asyncio
import json

import pytest
from alter_sdk import BlockedDestinationError, GrantRevokedError, PolicyViolationError, ProviderAPIError
from botocore.exceptions import ClientError

from harness import canary
from harness.aws import Account
from harness.http import Answer
from harness.world import ApiError, Secret, World, environment


def aws_secret(world: World, *, service: str = "s3", session: bool = False, **fields: object) -> tuple[Secret, str]:
    """A stored AWS credential and its access key id, known to the test's AWS."""
    access_key = canary.access_key_id()
    account = Account(canary.secret_access_key(), canary.token() if session else None)
    world.services.aws.accounts[access_key] = account
    stored = {"secret_key": account.secret_key, "region": "eu-west-1", "service": service}
    if session:
        stored["session_token"] = account.session_token
    hosts = [world.services.aws.authority]
    secret = world.secret(access_key, credential_type="aws_sig_v4", fields=stored, hosts=hosts, **fields)
    return secret, access_key


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("service", ["s3", "sts", "execute-api"])
async def test_core_101_signed_provider_request(world: World, service: str, session: bool):
    secret, access_key = aws_secret(world, service=service, session=session)
    url = f"{world.services.aws.url}/bucket/a%20b/ü"
    async with world.vault() as app:
        for method, options in (
            ("GET", {"query_params": {"list-type": "2", "prefix": "a~b/ü+"}}),
            ("POST", {"json": {"a": 1, "ü": "ß"}}),
            ("PUT", {"body": b"\x00\xff raw"}),
        ):
            answer = await app.request(method, url, grant_id=secret.grant_id, **options)
            assert answer.status_code == 200, (method, world.services.aws.calls(access_key)[-1].verdict)
    calls = world.services.aws.calls(access_key)
    assert [c.verdict for c in calls] == ["ok", "ok", "ok"]
    assert {(c.region, c.service) for c in calls} == {("eu-west-1", service)}
    for exchange in world.exchanges(path="/sdk/oauth/audit/api-call"):
        assert not any(n.lower().startswith("x-amz-") for n in json.loads(exchange.body)["request_headers"])


async def test_core_101_answer_of_the_token_call(world: World):
    secret, access_key = aws_secret(world, session=True)
    answer: Answer = world.send(
        world.signed("POST", "/sdk/token", world.token_body(secret.grant_id, f"{world.services.aws.url}/b"))
    )
    value = answer.json()
    assert value["access_token"] == access_key
    assert value["injection_format"].startswith("AWS4-HMAC-SHA256")
    account = world.services.aws.accounts[access_key]
    assert value["additional_credentials"] == {
        "secret_key": account.secret_key,
        "session_token": account.session_token,
        "region": "eu-west-1",
        "service": "s3",
    }


async def test_core_101_rotation_reaches_the_next_signature(world: World):
    secret, access_key = aws_secret(world)
    account = world.services.aws.accounts[access_key]
    async with world.vault() as app:
        await app.request("GET", f"{world.services.aws.url}/b", grant_id=secret.grant_id)
        account.secret_key = canary.secret_access_key()
        assert (await _status(app, world, secret)) == 403
        fields = {"secret_key": account.secret_key, "region": "eu-west-1", "service": "s3"}
        world.api("POST", f"/managed-secrets/{secret.id}/rotate", {"value": access_key, "fields": fields})
        assert (await _status(app, world, secret)) == 200


async def _status(app: object, world: World, secret: Secret) -> int:
    try:
        return (await app.request("GET", f"{world.services.aws.url}/b", grant_id=secret.grant_id)).status_code
    except ProviderAPIError as error:
        return error.status_code


@pytest.mark.parametrize("missing", ["secret_key", "region", "service"])
def test_core_102_incomplete_aws_credentials_cannot_be_stored(world: World, missing: str):
    """So the client never gets an answer it cannot sign with: only AWS's own hosts name region and service."""
    fields = {"secret_key": canary.secret_access_key(), "region": "eu-west-1", "service": "s3"}
    del fields[missing]
    hosts = [world.services.aws.authority]
    with pytest.raises(ApiError) as refused:
        world.secret(canary.access_key_id(), credential_type="aws_sig_v4", fields=fields, hosts=hosts)
    assert refused.value.status in (400, 422)
    assert missing in refused.value.answer.body.decode()


def test_core_102_region_and_service_may_be_left_to_the_host_names_of_aws(world: World):
    hosts = ["*.amazonaws.com"]
    fields = {"secret_key": canary.secret_access_key()}
    secret = world.secret(canary.access_key_id(), credential_type="aws_sig_v4", fields=fields, hosts=hosts)
    body = world.token_body(secret.grant_id, "https://s3.eu-west-1.amazonaws.com/")
    assert world.send(world.signed("POST", "/sdk/token", body)).json()["additional_credentials"] == fields


async def boto_client(app: object, service: str, secret: Secret, world: World) -> object:
    with environment(AWS_ENDPOINT_URL=world.services.aws.url, AWS_EC2_METADATA_DISABLED="true"):
        return await app.boto3_client(service, grant_id=secret.grant_id, region_name="eu-west-1")


async def test_core_103_boto3(world: World):
    secret, access_key = aws_secret(world, session=True)
    async with world.vault() as app:
        s3 = await boto_client(app, "s3", secret, world)
        buckets = await asyncio.to_thread(s3.list_buckets)
        assert [b["Name"] for b in buckets["Buckets"]] == ["ledger"]
        assert len(world.exchanges(path="/sdk/token")) == 1
        sent = json.loads(world.exchanges(path="/sdk/token")[0].body)
        assert sent["request"]["url"].startswith(world.services.aws.url)
    (call,) = world.services.aws.calls(access_key)
    assert (call.verdict, call.service, call.region) == ("ok", "s3", "eu-west-1")
    assert len(world.events(kind="token.released")) == 1
    assert len(world.events(kind="call.claimed")) == 1


async def test_core_103_boto3_sts(world: World):
    secret, access_key = aws_secret(world, service="sts")
    async with world.vault() as app:
        sts = await boto_client(app, "sts", secret, world)
        assert (await asyncio.to_thread(sts.get_caller_identity))["Account"] == "1"
    assert [c.verdict for c in world.services.aws.calls(access_key)] == ["ok"]


async def test_core_103_error_of_aws_is_botocores(world: World):
    secret, _ = aws_secret(world)
    async with world.vault() as app:
        s3 = await boto_client(app, "s3", secret, world)
        with pytest.raises(ClientError) as error:
            await asyncio.to_thread(s3.list_objects_v2, Bucket="denied")
    assert error.value.response["Error"]["Code"] == "AccessDenied"


async def test_core_103_refusals_of_ours_are_the_clients(world: World):
    secret, access_key = aws_secret(world)
    denied = world.mint(cidr_allowlist=["10.0.0.0/8"])
    async with world.vault(denied) as app:
        s3 = await boto_client(app, "s3", secret, world)
        with pytest.raises(PolicyViolationError) as error:
            await asyncio.to_thread(s3.list_buckets)
        assert error.value.policy_error == "ip_not_allowed"
    async with world.vault() as app:
        s3 = await boto_client(app, "s3", secret, world)
        world.api("PUT", f"/managed-secrets/{secret.id}/allowed-hosts", {"allowed_hosts": ["s3.amazonaws.com"]})
        with pytest.raises(BlockedDestinationError):
            await asyncio.to_thread(s3.list_buckets)
        world.revoke(secret.grant_id)
        with pytest.raises(GrantRevokedError):
            await asyncio.to_thread(s3.list_buckets)
    assert world.services.aws.calls(access_key) == []
