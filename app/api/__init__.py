"""The REST API: one router per noun, all under /api/v1."""

from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.api import (
    access,
    catalogue,
    curves,
    features,
    inquiries,
    layer_film,
    layers,
    live,
    queue,
    runs,
    series,
    steering,
    storage,
    workers,
)
from app.api.answers import BAD
from app.problems import Invalid, clipped


async def must_be_known(request: Request) -> None:
    """Refuses parameters that the operation does not document.

    A misspelt filter would be passed over otherwise, and the answer be that to another question.
    """
    if not documented_parameters.cache_info().currsize:
        # the first request makes a document, which takes long
        await to_thread.run_sync(query_parameters)
    known = query_parameters()[request.scope["route"].operation_id]
    if TAKES_ANY in known:
        return
    if unknown := set(request.query_params) - known:
        there_are = ", ".join(sorted(known)) or "none"
        message = f"there is no such parameter; there are: {there_are}"
        raise Invalid(
            [{"field": clipped(n), "message": message, "given": None} for n in sorted(unknown)]
        )


TAKES_ANY = catalogue.MODEL_PARAMETERS["name"]


DOCUMENTING = Lock()


def query_parameters() -> Mapping[str, frozenset[str]]:
    """What each operation takes in its query, by its id, as a document of the API says."""
    # the first requests of fifty pages would each make it
    with DOCUMENTING:
        return documented_parameters()


@cache
def documented_parameters() -> Mapping[str, frozenset[str]]:
    # of the router, not of an application: the same for all that serve it from this process
    document = get_openapi(title="", version="", routes=router.routes)
    operations: list[dict[str, Any]] = [
        operation for path in document["paths"].values() for operation in path.values()
    ]
    return {
        operation["operationId"]: frozenset(
            parameter["name"]
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        )
        for operation in operations
    }


router = APIRouter(prefix="/api/v1", responses=BAD, dependencies=[Depends(must_be_known)])
for module in (
    runs,
    steering,
    series,
    curves,
    features,
    # before the layers, where `film` would be taken for the end of a layer's name
    layer_film,
    layers,
    catalogue,
    inquiries,
    queue,
    workers,
    storage,
    live,
    access,
):
    for route in module.router.routes:
        assert isinstance(route, APIRoute)
        assert route.operation_id
        route.summary = route.operation_id.replace("_", " ").capitalize()
    router.include_router(module.router)
