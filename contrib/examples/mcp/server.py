"""An MCP server whose users sign in at your identity provider and reach their own accounts through grantd.

MCP clients find the sign-in, register and get tokens by themselves; grantd runs the flow with the identity provider. No account,
token or grant id is kept beyond this process.
"""

from __future__ import annotations

import os

from alter_sdk.fastapi import AlterFastAPI
from alter_sdk.mcp import AlterContext, AlterMCP
from fastmcp import FastMCP

PROVIDER = os.environ["PROVIDER"]
API_URL = os.environ["API_URL"]

# The address of grantd is in ALTER_BASE_URL. This class passes the user of a request on to the client.
alter = AlterFastAPI(api_key=os.environ["ALTER_API_KEY"], caller="example-mcp")
# Where clients reach this server.
auth = alter.auth_provider(base_url=os.environ["MCP_URL"], providers={PROVIDER: []})
mcp = FastMCP("grantd with MCP", auth=auth)
tools = AlterMCP(alter.app)


@mcp.tool
@tools.tool(provider=PROVIDER)
async def list_things(context: AlterContext) -> dict:
    """The things in the user's account. Answers with a link where the user has not connected one."""
    answer = await context.request("GET", API_URL, reason="the user asked an assistant")
    return answer.json()


@mcp.tool
async def who_am_i() -> dict:
    """Who the assistant works for."""
    who = await alter.app.resolve_identity(include_profile=True)
    return {"id": who.app_user_id, "subject": who.external_subject_id, "email": who.email}


# A request is a session of its own: so a tool runs as the user who called it, whoever opened the connection.
app = mcp.http_app(path="/mcp", stateless_http=True)
