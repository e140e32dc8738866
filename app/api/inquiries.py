"""/inquiries: ask what is answered on a worker's device, and read the answers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from sqlalchemy import Connection, Row, select

from app.api import shapes
from app.api.answers import MISSING, REFUSED, JsonResponse, problems
from app.check import must_be_possible
from app.connections import AnEngine, Reading, Writing
from app.finding import must_exist
from app.inquiries import desk
from app.inquiries.advice import advice
from app.inquiries.desk import State, TooManyWait
from app.models import inquiries
from trainer.inquiries import AboutConfig, AnyInquiry, Inquiry, Preflight

router = APIRouter(prefix="/inquiries", tags=["inquiries"])

Number = Annotated[int, Path(ge=1, lt=2**63)]
HIDDEN = ("asked", "fence", "alone")


def possible(inquiry: AnyInquiry, engine: AnEngine) -> Inquiry:
    """A question on a config that can be carried out; found out before the database is locked."""
    # what is wrong with a config is what a pre-flight is asked
    if isinstance(inquiry, AboutConfig) and not isinstance(inquiry, Preflight):
        must_be_possible(inquiry.config, engine)
    return inquiry


@router.post(
    "",
    status_code=201,
    operation_id="ask",
    response_model=shapes.Inquiry,
    responses={**MISSING, 429: problems("Too many wait")},
)
def ask(
    inquiry: Annotated[Inquiry, Depends(possible)],
    connection: Writing,
    run: Annotated[
        int | None, Query(ge=1, lt=2**63, description="The run it is about: shown on its page.")
    ] = None,
) -> Response:
    """Ask a question; the answer comes under its number."""
    if run is not None:
        must_exist(connection, run)
    try:
        number = desk.add(connection, inquiry, run)
    except TooManyWait as many:
        raise HTTPException(429, str(many), {"Retry-After": "10"}) from many
    location = {"Location": f"/api/v1/inquiries/{number}"}
    return JsonResponse(view(desk.find(connection, number)), 201, location)


@router.get("", operation_id="list_inquiries", response_model=shapes.Inquiries)
def list_(
    connection: Reading,
    kind: Annotated[str, Query(max_length=100)] = "",
    status: State | None = None,
    run: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    before: Annotated[
        int | None, Query(ge=1, lt=2**63, description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Questions, newest first, without their answers."""
    query = select(inquiries).order_by(inquiries.c.id.desc()).limit(limit + 1)
    filters = {"kind": kind, "status": status, "run_id": run}
    for name, wanted in filters.items():
        if wanted:
            query = query.where(inquiries.c[name] == wanted)
    if before is not None:
        query = query.where(inquiries.c.id < before)
    rows = connection.execute(query).all()
    return JsonResponse(
        {
            "inquiries": [view(row) | {"answer": None} for row in rows[:limit]],
            "next": rows[limit - 1].id if len(rows) > limit else None,
        }
    )


@router.get(
    "/{number}", operation_id="get_inquiry", response_model=shapes.Inquiry, responses=MISSING
)
def get(number: Number, connection: Reading) -> Response:
    """A question, how far its answer is, and the answer."""
    return one(connection, number)


@router.post(
    "/{number}/cancel",
    operation_id="cancel_inquiry",
    response_model=shapes.Inquiry,
    responses=REFUSED,
)
def cancel(number: Number, connection: Writing) -> Response:
    """End it without an answer; one that is being answered ends within seconds."""
    desk.cancel(connection, number)
    return one(connection, number)


def one(connection: Connection, number: int) -> Response:
    return JsonResponse(view(desk.find(connection, number)))


def view(row: Row[Any]) -> dict[str, Any]:
    shown = {key: value for key, value in row._mapping.items() if key not in HIDDEN}
    return shown | {"advice": advice(row.cause)}
