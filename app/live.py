"""Live: one look at the database per quarter second, however many pages are open."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi.sse import ServerSentEvent
from sqlalchemy import Engine, Row, false, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from app.derived import progress, seconds_left
from app.models import Status, run_events, runs
from trainer.store.database import finite, reading

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
PROGRESS_SECONDS = 0.6
"""How often pages hear that a run has got on; of everything else they hear at the next look."""
PROGRESS = frozenset("step train_seconds progress seconds_left version".split())
COLUMNS = (
    "id name status reason cause asked activity step total_steps steps_per_epoch train_seconds "
    "device version"
).split()


@dataclass(frozen=True, slots=True)
class State:
    """What is told of a run, and the event that tells it: made once, whoever follows."""

    facts: dict[str, Any]
    event: ServerSentEvent

    @classmethod
    def of(cls, row: Row[Any]) -> "State":
        facts = {name: row._mapping[name] for name in COLUMNS}
        facts |= {
            "status_meaning": Status(row.status).meaning,
            "progress": progress(row),
            "seconds_left": seconds_left(row),
        }
        return cls(facts, ServerSentEvent(event="run", raw_data=json.dumps(finite(facts))))

    def beside_progress(self) -> dict[str, Any]:
        return {name: value for name, value in self.facts.items() if name not in PROGRESS}


class Follower:
    """One open page: the runs it shows (all, when none are named) and the news it has not had."""

    def __init__(self, wanted: Collection[int]) -> None:
        self.wanted = frozenset(wanted)
        self.is_new = True
        self.versions: dict[int, int] = {}
        self.news: dict[int, State] = {}
        self.has_news = asyncio.Event()

    def tell(self, states: Iterable[State]) -> None:
        """Keep states that are newer than the last ones told, in place of what still waits."""
        for state in states:
            run_id, version = state.facts["id"], state.facts["version"]
            if self.wanted and run_id not in self.wanted:
                continue
            if version > self.versions.get(run_id, -1):
                self.versions[run_id] = version
                # only the newest state of a run matters: a slow page never piles anything up
                self.news[run_id] = state
                self.has_news.set()

    def take(self) -> list[State]:
        self.has_news.clear()
        news, self.news = self.news, {}
        return list(news.values())


class Live:
    """Tells followers what changed. Looks at the database only while there is a follower."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.followers: set[Follower] = set()
        self.last_event: int | None = None
        self.were_running: frozenset[int] = frozenset()
        self.told: dict[int, tuple[float, State]] = {}
        """Of the runs that train: what everybody heard last, and when."""
        self.looking: asyncio.Task[None] | None = None
        self.knock = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    async def follow(self, wanted: Collection[int]) -> AsyncGenerator[State]:
        """The runs' states as they are now, and then every change, until the server closes.

        Without runs named: those that run, and then every run that changes.
        """
        follower = Follower(wanted)
        self.followers.add(follower)
        self.start_looking()
        try:
            while not self.closed:
                await follower.has_news.wait()
                for state in follower.take():
                    yield state
        finally:
            self.followers.discard(follower)

    def start_looking(self) -> None:
        """Look at once, whether or not somebody looks already."""
        self.loop = asyncio.get_running_loop()
        if self.looking is None or self.looking.done():
            self.last_event, self.knock = None, asyncio.Event()
            self.looking = asyncio.create_task(self.look_around())
        self.knock.set()

    async def look_around(self) -> None:
        """Look until nobody follows any more."""
        while self.followers and not self.closed:
            self.knock.clear()
            try:
                await self.look()
            except SQLAlchemyError as error:
                # locked for a moment, perhaps; the pages stay open and hear of it later
                log.warning("a look at the runs failed: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.knock.wait(), LOOK_SECONDS)

    async def look(self) -> None:
        """Tell everybody what changed, and the new ones how their runs are.

        In this order: a change after the first of the two is found by the next look.
        """
        changed = await to_thread.run_sync(self.changed)
        for follower in list(self.followers):
            if follower.is_new:
                follower.tell(await to_thread.run_sync(self.states, follower.wanted))
                follower.is_new = False
            follower.tell(changed)

    def changed(self) -> list[State]:
        """Runs that may be new to somebody: they run, ran a moment ago, or have a new event.

        All are found by an index, so the cost does not grow with the number of old runs.
        """
        event = run_events.c
        with reading(self.engine) as connection:
            newest = connection.execute(select(func.max(event.id))).scalar() or 0
            since = newest if self.last_event is None else self.last_event
            query = select(event.run_id).where(event.id > since, event.id <= newest)
            ids = self.were_running.union(connection.execute(query).scalars())
        states = self.states(ids, running_too=True)
        self.last_event = newest
        self.were_running = frozenset(
            s.facts["id"] for s in states if s.facts["status"] == Status.RUNNING
        )
        return self.without_mere_progress(states)

    def without_mere_progress(self, states: Iterable[State]) -> list[State]:
        """Those of which something is new beside how far they are, or that were told a while ago.

        Each event makes every page that is open fetch something.
        """
        now = time.monotonic()
        news = []
        for state in states:
            at, before = self.told.get(state.facts["id"], (-PROGRESS_SECONDS, state))
            is_told = now - at < PROGRESS_SECONDS and state.facts["id"] in self.were_running
            if not (is_told and state.beside_progress() == before.beside_progress()):
                news.append(state)
        told = {state.facts["id"]: (now, state) for state in news}
        self.told = {
            number: entry
            for number, entry in {**self.told, **told}.items()
            if number in self.were_running
        }
        return news

    def states(self, ids: Collection[int], *, running_too: bool = False) -> list[State]:
        """The states of these runs, or of those that run where none are named."""
        running = runs.c.status == Status.RUNNING if running_too or not ids else false()
        wanted = or_(runs.c.id.in_(ids), running)
        with reading(self.engine) as connection:
            rows = connection.execute(select(runs).where(wanted).order_by(runs.c.id)).all()
        return [State.of(row) for row in rows]

    def close(self) -> None:
        """End every stream; may be called from a signal handler. The server would wait for them."""
        self.closed = True
        if self.loop is not None:
            # the loop may be over already
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        self.knock.set()
        for follower in self.followers:
            follower.has_news.set()

    async def end(self) -> None:
        """Close, and wait until nothing looks at the database any more."""
        self.closed = True
        self.wake()
        if self.looking is not None:
            await self.looking
