"""A web API whose users reach their own accounts through grantd, by the token they sign in with.

No account, token or grant id is kept here. A caller sends the token of your identity provider as a bearer token; the
official client passes it on, and grantd finds the grant that is this user's.
"""

from __future__ import annotations

import os
from typing import Annotated

from alter_sdk import AmbiguousGrantError, App, GrantDeletedError, GrantNotFoundError, GrantRevokedError, ReAuthRequiredError
from alter_sdk.fastapi import AlterFastAPI
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

PROVIDER = os.environ["PROVIDER"]
API_URL = os.environ["API_URL"]

# The address of grantd is in ALTER_BASE_URL.
alter = AlterFastAPI(api_key=os.environ["ALTER_API_KEY"], caller="example-fastapi")
app = FastAPI(title="grantd with FastAPI")

# Takes the bearer token of the request, and answers 401 where there is none.
User = Annotated[App, Depends(alter)]


@app.exception_handler(ReAuthRequiredError)
async def sign_in_again(_: Request, error: ReAuthRequiredError) -> JSONResponse:
    """The token is not good, or its user was suspended: grantd says which, and this answers what browsers and agents know."""
    return JSONResponse({"detail": error.message}, 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


@app.get("/me")
async def me(vault: User) -> dict:
    """Who is calling, as grantd knows them."""
    who = await vault.resolve_identity(include_profile=True)
    return {"id": who.app_user_id, "subject": who.external_subject_id, "email": who.email}


@app.get("/things")
async def things(vault: User, account: str | None = None) -> dict:
    """Calls the provider as the user. Who has connected no account yet is sent to do it."""
    try:
        answer = await vault.request("GET", API_URL, provider=PROVIDER, account=account)
    except (GrantNotFoundError, GrantRevokedError, GrantDeletedError) as error:
        session = await vault.create_connect_session(allowed_providers=[PROVIDER])
        raise HTTPException(409, {"connect_url": session.connect_url}) from error
    except AmbiguousGrantError as error:
        choices = [each.account_identifier or each.label for each in error.candidates]
        raise HTTPException(300, {"choose_account": choices}) from error
    return answer.json()
