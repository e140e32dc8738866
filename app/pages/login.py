"""LoginPage: a browser shows a token once, and has one of its own in a cookie from then on."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection, Row

from app.access import audit, tokens
from app.access.admission import client_address, cookie_name
from app.access.roles import actor
from app.access.tries import Tries
from app.connections import AnEngine, Writing
from app.pages.templates import render
from trainer.store.database import writing

router = APIRouter()

HOME = "/runs"
OWN_PATH = re.compile(r"/(?![/\\])[^\s\\]*")
NO_STORE = {"Cache-Control": "no-store"}
USED_UP = (
    "This address has logged a browser in already, or is more than a day old. On the machine of "
    "the server `tricklab login` prints a new one."
)
UNKNOWN = "No token is like that, or it was revoked."

Find = Callable[[Connection, str], Row[Any] | None]
Wanted = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/login")
def page(
    request: Request,
    engine: AnEngine,
    code: Annotated[str, Query(max_length=500)] = "",
    wanted: Wanted = "",
) -> Response:
    """The form; with the code of an address that the server printed, the login itself."""
    if not code:
        return form(request, wanted)
    with writing(engine) as connection:
        return log_in(request, connection, code, tokens.use_once, wanted, USED_UP)


@router.post("/login")
def submit(
    request: Request,
    connection: Writing,
    token: Annotated[str, Form(max_length=500)] = "",
    wanted: Annotated[str, Form(alias="next", max_length=2000)] = "",
) -> Response:
    return log_in(request, connection, token.strip(), of_program, wanted, UNKNOWN)


def of_program(connection: Connection, secret: str) -> Row[Any] | None:
    return tokens.find(connection, tokens.hash_of(secret), tokens.Kind.PROGRAM)


@router.post("/logout")
def log_out(request: Request, connection: Writing) -> Response:
    """Forget this browser; what it logged in with stays good."""
    number = actor.get().token_id
    if number is not None:
        tokens.revoke_row(connection, number)
        request.app.state.keys.forget()
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie_name(request.app.state.settings), httponly=True, samesite="strict")
    return answer


def log_in(
    request: Request, connection: Connection, secret: str, find: Find, wanted: str, otherwise: str
) -> Response:
    """Give the browser a token of its own, when there is one to make it from.

    While an address must wait, only secrets are tried that nobody could guess.
    """
    tries: Tries = request.app.state.tries
    client = client_address(request)
    wait = tries.wait_seconds(client)
    may_try = not wait or tokens.is_beyond_guessing(secret)
    found = find(connection, secret) if may_try else None
    if wait and found is None:
        words = f"Too many wrong tokens from this address; try again in {wait} seconds."
        return form(request, wanted, words, 429, {"Retry-After": str(wait)})
    audit.note(
        connection,
        who=found.name if found else "nobody",
        role=found.role if found else "",
        address=client,
        method=request.method,
        path="/login",
        status=303 if found else 401,
    )
    if found is None:
        tries.fail(client)
        return form(request, wanted, otherwise, 401)
    answer = RedirectResponse(own_path(wanted), 303, NO_STORE)
    answer.set_cookie(
        cookie_name(request.app.state.settings),
        tokens.make_for_browser(connection, found),
        max_age=round(tokens.BROWSER_DAYS * tokens.DAY),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


def own_path(wanted: str) -> str:
    """Where to go on; only ever a page of this server."""
    return wanted if OWN_PATH.fullmatch(wanted) else HOME


def form(
    request: Request,
    wanted: str,
    trouble: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    answer = render(
        request,
        "login.html",
        status,
        wanted=own_path(wanted),
        trouble=trouble,
        is_wrong=request.method == "POST",
    )
    answer.headers.update({**NO_STORE, **(headers or {})})
    return answer
