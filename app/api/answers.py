"""Answers: how the API sends documents, and what several routers describe alike."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import Query, Response
from sqlalchemy import Connection

from app.run_view import runs_by_id
from trainer.store.database import finite

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, and what to do."},
        "errors": {
            "type": "array",
            "description": "What is wrong with each field, where fields are to blame.",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                    "given": {},
                },
            },
        },
    },
}
Responses = dict[int | str, dict[str, Any]]


def problems(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": PROBLEM}},
    }


MISSING: Responses = {404: problems("No such thing")}
REFUSED: Responses = {**MISSING, 409: problems("Not possible now")}
BAD: Responses = {"4XX": problems("What was sent cannot be used")}


class JsonResponse(Response):
    """A document sent as it is: much quicker than by way of its model.

    Non-finite numbers become the strings NaN, Infinity and -Infinity.
    """

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(finite(content), option=orjson.OPT_SERIALIZE_NUMPY)


def one_run(connection: Connection, run_id: int, status_code: int = 200) -> Response:
    """A run as it is now; for a new one also where to ask for it again."""
    location = {"Location": f"/api/v1/runs/{run_id}"} if status_code == 201 else None
    return JsonResponse(runs_by_id(connection, [run_id])[0], status_code, location)


def column(values: npt.NDArray[Any]) -> Any:
    """Numbers for a document: as they are when all are finite, otherwise as a list."""
    return values if np.isfinite(values).all() else values.tolist()


RUN_LIST = r"^[0-9]{1,18}(,[0-9]{1,18}){0,199}$"
RunList = Annotated[
    str,
    Query(pattern=RUN_LIST, description="Numbers of runs, with commas between; at most 200."),
]


def numbers(text: str) -> list[int]:
    """Run numbers out of a checked comma list, each once, in its order."""
    return list(dict.fromkeys(int(part) for part in text.split(",")))
