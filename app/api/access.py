"""/tokens, /audit and /me: who may come in, who did what, and who is asking."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.access import audit, tokens
from app.access.roles import Role, actor
from app.api import shapes
from app.api.answers import JsonResponse
from app.connections import Reading, Writing
from app.names import Storable

router = APIRouter(tags=["access"])

Number = Annotated[int, Field(ge=1, lt=2**63)]


class NewToken(BaseModel):
    """Who gets a token, and what they may do with it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=64, description="Who uses it."), Storable]
    role: Role


@router.get("/me", operation_id="get_me", response_model=shapes.Me)
def me() -> Response:
    """By which name and role this request came in."""
    identity = actor.get()
    return JsonResponse({"name": identity.name, "role": identity.role})


@router.get("/tokens", operation_id="list_tokens", response_model=shapes.Tokens)
def list_(connection: Reading) -> Response:
    """The tokens that are good, of programs and of browsers; never their secrets."""
    return JsonResponse({"tokens": [dict(row._mapping) for row in tokens.listed(connection)]})


@router.post("/tokens", operation_id="make_token", status_code=201, response_model=shapes.TokenMade)
def make(connection: Writing, wanted: NewToken) -> Response:
    """Make a token. This answer is the only one that ever holds its secret."""
    secret = tokens.make(connection, wanted.name, wanted.role)
    number = tokens.number_of(connection, wanted.name)
    made = {"id": number, "name": wanted.name, "role": wanted.role, "token": secret}
    return JsonResponse(made, 201, {"Cache-Control": "no-store"})


@router.delete("/tokens/{number}", operation_id="revoke_token", status_code=204)
def revoke(request: Request, connection: Writing, number: Number) -> Response:
    """Take a token back, and every browser's that was made from it."""
    tokens.revoke(connection, number)
    request.app.state.keys.forget()
    return Response(status_code=204)


@router.get("/audit", operation_id="get_audit", response_model=shapes.Audit)
def log(
    connection: Reading,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        Number | None, Query(description="Only lines before this one: the last of a page.")
    ] = None,
    who: Annotated[str, Query(max_length=100), Storable] = "",
) -> Response:
    """Who changed, or tried to change, what; the newest first."""
    found = audit.lines(connection, limit, before, who)
    return JsonResponse({"lines": [dict(row._mapping) for row in found]})
