"""/live: what changes, as server-sent events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.answers import RUN_LIST, numbers
from app.live import Live

router = APIRouter(tags=["live"])


@router.get("/live", operation_id="follow_runs", response_class=EventSourceResponse)
async def follow(
    request: Request,
    runs: Annotated[
        str,
        Query(
            pattern=f"^$|{RUN_LIST}",
            description="Numbers of runs, with commas between; every run that changes if empty.",
        ),
    ] = "",
) -> AsyncIterator[ServerSentEvent]:
    """An event `run` with the state of each run named, or of those that run; then every change.

    A client that was cut off just connects again: the first events are the present state.
    """
    live: Live = request.app.state.live
    async with aclosing(live.follow(numbers(runs) if runs else [])) as states:
        async for state in states:
            yield state.event
