"""/live: what changes, as server-sent events."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.access.admission import client_address
from app.access.keys import Keys
from app.access.roles import actor
from app.api.answers import RUN_LIST, numbers
from app.live import Live

router = APIRouter(tags=["live"])

MOST_STREAMS, MOST_OF_ONE = 1024, 100
"""Streams open at the same time, of everybody and of one client."""


async def a_stream(request: Request) -> AsyncGenerator[None]:
    """One of the streams that may be open at the same time, as long as the request lasts."""
    streams: list[str] = request.app.state.streams
    client = client_address(request)
    wait = {"Retry-After": "10"}
    if len(streams) >= MOST_STREAMS:
        raise HTTPException(503, "too many event streams are open on this server", wait)
    if streams.count(client) >= MOST_OF_ONE:
        detail = f"{MOST_OF_ONE} event streams are open from this address; close some pages"
        raise HTTPException(429, detail, wait)
    streams.append(client)
    try:
        yield
    finally:
        streams.remove(client)


@router.get(
    "/live",
    operation_id="follow_runs",
    response_class=EventSourceResponse,
    dependencies=[Depends(a_stream)],
)
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
    keys: Keys = request.app.state.keys
    identity = actor.get()
    async with aclosing(live.follow(numbers(runs) if runs else [])) as states:
        async for state in states:
            if not await keys.still_holds(identity):
                # its token was revoked: whoever asks again is told so
                return
            yield state.event
