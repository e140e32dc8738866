"""Problems: every error of the server as RFC 9457 `application/problem+json`."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.missing import NotThere
from trainer.part import Refused
from trainer.store.database import finite

log = logging.getLogger(__name__)

Handler = Callable[[Request, Exception], Awaitable[Response]]
Show = Callable[[Request, int, str], Response]
"""Makes a page of a status and what to say about it."""

TOO_LARGE = "the request is larger than this server takes (1 MiB)"
TOO_MANY = "Too many fields"
"""How Starlette begins to say that a form has more of them than it was told to read."""
TOO_MANY_FIELDS = "the form has more fields than any form here; send those of the page alone"
NOT_JSON = "send the body as JSON, with Content-Type: application/json"
TOOK_TOO_LONG = ("interrupted", "statement timeout")
"""What SQLite and PostgreSQL say of a statement that ran into its limit."""
LONGEST_ECHO = 200
MOST_ERRORS = 100
PLACES = ("body", "query", "path", "header")
CHOICES = ("task", "model", "loss", "optimizer", "schedule")
"""Fields that are one of several classes: pydantic puts the chosen name behind them."""


class Invalid(Exception):
    """A config that is well-formed but cannot be carried out: fields and messages."""

    def __init__(self, errors: Sequence[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{e['field']}: {e['message']}" for e in errors))
        self.errors = list(errors)


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """An answer that says what happened and what to do."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    # not orjson: what is sent back may hold huge integers and broken Unicode
    content = json.dumps(finite(body), allow_nan=False)
    return Response(content, status, headers, media_type="application/problem+json")


def field_errors(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """pydantic's errors as field, message and what was given. Fields are dotted paths."""
    return [
        {
            "field": field_path(error["loc"]),
            "message": message(error),
            "given": echo(error.get("input")),
        }
        for error in errors
    ]


def field_path(loc: Sequence[int | str]) -> str:
    """The path as whoever sent the document wrote it: `config.tricks.0.steps`."""
    parts = loc[1:] if len(loc) > 1 and loc[0] in PLACES else loc
    written = [
        str(part)
        for number, part in enumerate(parts)
        if number == 0 or not is_chosen_name(parts[number - 1], part)
    ]
    return clipped(".".join(written))


def is_chosen_name(before: int | str, part: int | str) -> bool:
    """Whether pydantic added this part, to say which class was chosen."""
    return isinstance(part, str) and (before in CHOICES or isinstance(before, int))


def message(error: Any) -> str:
    """pydantic's message, said for people where it speaks of its own notions."""
    match error["type"]:
        case "model_attributes_type" | "model_type" | "dict_type":
            return "a JSON object is needed here"
        case "extra_forbidden":
            return "there is no such field"
        case "union_tag_not_found":
            return "say which one: its name is missing"
        case "union_tag_invalid":
            context = error["ctx"]
            return f"there is no {context['tag']!r}; there are: {context['expected_tags']}"
    said = str(error["msg"]).removeprefix("Value error, ")
    return said.partition(", unable to parse")[0]


def echo(value: Any) -> Any:
    """What was given, short enough to send back."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    # larger whole numbers have no place in JSON that every program can read
    return clipped(str(value))


def clipped(text: str) -> str:
    return text if len(text) <= LONGEST_ECHO else text[:LONGEST_ECHO] + "…"


def unprocessable(errors: list[dict[str, Any]]) -> Response:
    said = [": ".join(filter(None, (e["field"], e["message"]))) for e in errors[:5]]
    if len(errors) > len(said):
        said.append(f"and {len(errors) - len(said)} more")
    return problem(422, "; ".join(said), errors=errors[:MOST_ERRORS])


async def on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        reason, at = errors[0]["ctx"]["error"], errors[0]["loc"][-1]
        return problem(400, f"the body is no JSON: {reason} at character {at}")
    if isinstance(getattr(error, "body", None), bytes):
        # FastAPI leaves a body alone that does not say it is JSON
        return problem(415, NOT_JSON)
    return unprocessable(field_errors(errors))


async def on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, Invalid)
    return unprocessable(error.errors)


async def on_refused(request: Request, error: Exception) -> Response:
    return problem(409, str(error))


async def on_missing(request: Request, error: Exception) -> Response:
    return problem(404, str(error))


async def on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = clipped(request.url.path)
    if error.status_code == 400 and str(error.detail).startswith(TOO_MANY):
        return problem(413, f"{TOO_MANY_FIELDS} ({error.detail})")
    details = {
        400: "the body cannot be read; send JSON of sensible depth and size",
        404: f"nothing is at {path}",
        405: f"{request.method} is not for {path}",
        413: TOO_LARGE,
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem(error.status_code, detail, dict(error.headers or {}))


async def on_database(request: Request, error: Exception) -> Response:
    """A database that is locked, full or cannot be written: nothing was changed, try again."""
    reason = getattr(error, "orig", "all its connections are in use")
    log.error("the database failed at %s: %s", request.url.path, reason)
    if any(words in str(reason) for words in TOOK_TOO_LONG):
        return problem(503, "this took too long to read and was given up; ask for less at once")
    detail = f"the database does not answer ({reason}); nothing was changed, try again"
    return problem(503, detail, {"Retry-After": "2"})


async def on_conflict(request: Request, error: Exception) -> Response:
    """What was checked a moment ago no longer holds; only a database with several writers."""
    log.warning("a constraint stopped a change at %s: %s", request.url.path, error)
    return problem(409, "somebody else changed the same thing at this moment; try again")


async def on_anything(request: Request, error: Exception) -> Response:
    # the traceback goes to the log of the server, never to whoever asked
    return problem(500, "a mistake of this program; its log has the details")


HANDLERS: Mapping[type[Exception], Handler] = {
    RequestValidationError: on_validation,
    ValidationError: on_validation,
    Invalid: on_invalid,
    Refused: on_refused,
    NotThere: on_missing,
    HTTPException: on_http,
    IntegrityError: on_conflict,
    OperationalError: on_database,
    InterfaceError: on_database,
    NoConnection: on_database,
    Exception: on_anything,
}


def install(app: FastAPI, show: Show) -> None:
    """Answer every kind of error of this app: programs get a problem, people `show` it."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, for_whoever_asked(handler, show))


def for_whoever_asked(handler: Handler, show: Show) -> Handler:
    async def answer(request: Request, error: Exception) -> Response:
        return shown_to(request, await handler(request, error), show)

    return answer


def shown_to(request: Request, answer: Response, show: Show) -> Response:
    """A problem as whoever asked can read it: programs get it as it is, people a page."""
    if not wants_a_page(request):
        return answer
    told = json.loads(bytes(answer.body))
    return show(request, told["status"], told["detail"])


def wants_a_page(request: Request) -> bool:
    """Whether a browser asks for something to look at."""
    is_page = not request.url.path.startswith("/api/")
    return is_page and "text/html" in request.headers.get("accept", "")
