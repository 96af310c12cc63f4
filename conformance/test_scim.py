"""A directory that nobody here wrote: `scim2-client`, and the checks of servers that `scim2-tester` makes with it."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from alter_sdk import AlterSDKError, GrantDeletedError, ReAuthRequiredError, UserPrincipal
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import PatchOp, PatchOperation, SCIMException, SearchRequest
from scim2_tester import Status, check_server

from harness.authorization_server import AuthorizationServer
from harness.identity import goes, registered
from harness.world import World

# What a check finds, and why it stays, as docs/scim.md says.
AGREED = {
    "There is no such resource here.": "queries by POST to `/.search` are not there",
    "PATCH modify() did not remove attribute 'active'": "it cannot be taken away: that changes nothing, and it is still shown",
    "PATCH modify() returned unexpected value for 'members'.": "a member is shown with its name, which is the user's own",
}
PATIENCE_SECONDS = 60


def directory(world: World, idp_id: str, **ask: object) -> SyncSCIMClient:
    """The directory of an identity provider, by what the server tells of itself."""
    made = world.api("POST", f"/identity-providers/{idp_id}/scim", ask)
    base = f"{world.server.url}/scim/v2/{idp_id}"
    assert made["scim"]["base_url"] == base
    headers = {"Authorization": f"Bearer {made['token']}"}
    client = SyncSCIMClient(httpx2.Client(base_url=base, headers=headers, timeout=PATIENCE_SECONDS))
    client.discover()
    return client


def keyed(world: World) -> str:
    """An identity provider that is known by its keys alone."""
    issuer = "https://directory.example.com"
    body = {"issuer": issuer, "audiences": ["a"], "jwks_url": f"{issuer}/keys"}
    return world.api("POST", "/identity-providers", body)["id"]


def test_the_checks_of_a_public_library_hold(world: World):
    results = check_server(directory(world, keyed(world), subject_from="userName"))
    wrong = [each for each in results if each.status in (Status.DEVIATION, Status.ERROR, Status.CRITICAL)]
    found = {str(each.reason).partition("\n")[0] for each in wrong}
    assert found == set(AGREED), "\n".join(f"{each.title}: {each.reason}" for each in wrong)
    assert sum(each.status == Status.SUCCESS for each in results) >= 40


def test_a_directory_keeps_its_users_and_groups(world: World):
    client = directory(world, keyed(world))
    user_model, group_model = client.get_resource_model("User"), client.get_resource_model("Group")
    made = [
        client.create(user_model(user_name=f"{name}@example.com", external_id=name, display_name=name.title()))
        for name in ("ada", "bob", "eve")
    ]
    with pytest.raises(SCIMException):
        client.create(user_model(user_name="ADA@example.com", external_id="another"))
    query = SearchRequest(filter='externalId eq "bob" or displayName sw "Ev"', count=1, start_index=2)
    page = client.query(user_model, query_parameters=query)
    assert (page.total_results, page.items_per_page, page.start_index) == (2, 1, 2)
    group = client.create(group_model(display_name="Staff"))
    path = f"/groups/{world.api('GET', '/groups')['items'][0]['id']}"
    for op, value, members in (
        (PatchOperation.Op.add, [{"value": each.id} for each in made], 3),
        (PatchOperation.Op.replace_, [{"value": made[0].id}], 1),
    ):
        operation = PatchOperation(op=op, path="members", value=value)
        client.modify(group_model, group.id, PatchOp[group_model](operations=[operation]))
        assert world.api("GET", path)["members"] == members
    off = PatchOperation(op=PatchOperation.Op.replace_, path="active", value=False)
    client.modify(user_model, made[0].id, PatchOp[user_model](operations=[off]))
    assert client.query(user_model, made[0].id).active is False
    statuses = {each["subject"]: each["user_status"] for each in world.api("GET", "/users")["items"]}
    assert statuses == {"ada": "suspended", "bob": "active", "eve": "active"}
    client.delete(user_model, made[1].id)
    client.delete(group_model, group.id)
    statuses = {each["subject"]: each["user_status"] for each in world.api("GET", "/users")["items"]}
    assert statuses["bob"] == "deprovisioned"
    assert world.api("GET", "/groups")["total"] == 0


async def test_whom_the_directory_deletes_is_nobody(world: World, authorization_server: AuthorizationServer):
    """Their grants and the sign-in under way end; their token, good as it is yet, makes no new user."""
    idp, secret = registered(world, authorization_server), world.secret()
    token = idp.token("alice")
    async with world.vault() as app:
        principal = UserPrincipal(user_token=token, label="own")
        made = await app.create_managed_secret_grant(secret.id, principal=principal)
        waiting = await app.create_auth_session()
        assert "You are signed in" in await asyncio.to_thread(goes, idp, waiting.auth_url)

        def leaves() -> None:
            client = directory(world, idp.id)
            model = client.get_resource_model("User")
            told = client.create(model(user_name="alice@example.test", external_id="alice"))
            client.delete(model, told.id)

        await asyncio.to_thread(leaves)
        for call in (
            lambda: app.request("GET", world.corner.url(), provider=secret.slug, user_token=token),
            lambda: app.resolve_identity(user_token=token),
            lambda: app.create_managed_secret_grant(secret.id, principal=principal),
        ):
            with pytest.raises(ReAuthRequiredError):
                await call()
        assert await app.verify_user_token(token) is None
        with pytest.raises(GrantDeletedError) as gone:
            await app.request("GET", world.corner.url(), grant_id=made.grant_id)
        assert (gone.value.status_code, gone.value.details["error"]) == (410, "grant_deleted")
        with pytest.raises(AlterSDKError, match="expired"):
            await app.poll_auth_session(waiting.session_token, timeout=20, poll_interval=0.05)
    (user,) = world.api("GET", "/users")["items"]
    assert (user["subject"], user["user_status"]) == ("alice", "deprovisioned")
    assert {event["actor"]["type"] for event in world.events(kind="user.deprovisioned")} == {"scim"}
