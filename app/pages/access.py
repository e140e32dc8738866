"""AccessPages: tokens, made and revoked by the owner, and who did what."""

from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from app.access import audit, tokens
from app.access.roles import Role
from app.connections import Reading, Writing
from app.pages.templates import render
from trainer.part import Refused

router = APIRouter(prefix="/settings")

LINES = 100
Number = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/tokens")
def page(request: Request, connection: Reading) -> Response:
    return shown(request, connection)


@router.post("/tokens")
def make(
    request: Request,
    connection: Writing,
    name: Annotated[str, Form(max_length=64)],
    role: Annotated[Role, Form()],
) -> Response:
    """The page with the new secret on it: no other answer ever holds it."""
    try:
        secret = tokens.make(connection, name.strip(), role)
    except Refused as refused:
        return shown(request, connection, 409, name=name, role=role, trouble=str(refused))
    return shown(request, connection, made_name=name.strip(), secret=secret)


@router.post("/tokens/{number}/revoke")
def revoke(request: Request, connection: Writing, number: Number) -> Response:
    tokens.revoke(connection, number)
    request.app.state.keys.forget()
    return RedirectResponse("/settings/tokens", 303)


@router.get("/audit")
def log(
    request: Request,
    connection: Reading,
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    found = audit.lines(connection, LINES + 1, before)
    return render(
        request,
        "settings/audit.html",
        lines=found[:LINES],
        is_first=before is None,
        following=found[LINES - 1].id if len(found) > LINES else None,
    )


def shown(request: Request, connection: Connection, status: int = 200, **said: str) -> Response:
    answer = render(
        request,
        "settings/tokens.html",
        status,
        tokens=tokens.listed(connection),
        roles=list(Role),
        fixed=tokens.FROM_ENVIRONMENT,
        **{"name": "", "role": Role.EDITOR, "trouble": "", "secret": "", **said},
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
