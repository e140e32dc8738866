"""Liveness: finds workers that are gone, and gives back the runs they held.

A worker of this folder holds a lock that dies with it: its end is known at once and whatever the
clocks say. Of any other only its signs are seen: it is lost when by the database's clock its lease
has run out, and it then stays silent for two signs more. That second look goes by our own
monotonic clock, so a clock that jumps makes nobody lose a run.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from app import queue
from app.inquiries import desk
from app.locks import is_held
from app.models import Status, runs, workers
from app.presence import SIGNS_PER_LEASE, lock_path
from app.queue import ClaimLost
from app.settings import Settings
from trainer.store.database import reading, writing
from trainer.store.database_clock import database_now

log = logging.getLogger(__name__)


class Liveness:
    """Looks for lost workers again and again; one for each process that does."""

    def __init__(self, engine: Engine, settings: Settings, own_token: str = "") -> None:
        self.engine = engine
        self.settings = settings
        self.own_token = own_token
        """Of the worker that looks, if one does: whoever can look has not been lost."""
        self.suspected: dict[int, tuple[float, float]] = {}
        """Silent workers: their last sign, and when we first saw that it was too old."""

    def look(self) -> list[int]:
        """Close the rows of lost workers and give back their runs; the numbers of those.

        Never raises for a database that does not answer: the next look may.
        """
        try:
            with reading(self.engine) as connection:
                lost = self.lost(connection)
                if not lost and not orphans(connection) and not desk.has_orphans(connection):
                    return []
            with writing(self.engine) as connection:
                for worker in lost:
                    close(connection, worker)
                given_back = [
                    run.id for run in orphans(connection) if self.give_back(connection, run)
                ]
                desk.give_back_orphans(connection)
            for worker in lost:
                log.warning(
                    "worker %d is lost; its last sign is %.1f s old", worker.id, worker.silence
                )
                lock_path(self.settings.folder, worker.token).unlink(missing_ok=True)
            return given_back
        except SQLAlchemyError as error:
            log.warning("no look at the workers: %s", error)
            return []

    def lost(self, connection: Connection) -> list[Row[Any]]:
        silence = (database_now() - workers.c.seen_at).label("silence")
        columns = (workers.c.id, workers.c.token, workers.c.seen_at, silence)
        rows = connection.execute(select(*columns).where(workers.c.ended_at.is_(None))).all()
        others = [row for row in rows if not self.own_token or row.token != self.own_token]
        return [row for row in others if self.is_dead(row) or self.is_silent(row)]

    def is_dead(self, worker: Row[Any]) -> bool:
        path = lock_path(self.settings.folder, worker.token)
        return bool(worker.token) and path.exists() and not is_held(path)

    def is_silent(self, worker: Row[Any]) -> bool:
        # a sign far in the future is as old as one in the past: the clock was put back
        if abs(worker.silence) <= self.settings.lease_seconds:
            self.suspected.pop(worker.id, None)
            return False
        seen_at, since = self.suspected.get(worker.id, (None, 0.0))
        if seen_at != worker.seen_at:
            self.suspected[worker.id] = (worker.seen_at, time.monotonic())
            return False
        return time.monotonic() - since > 2 * self.settings.lease_seconds / SIGNS_PER_LEASE

    def give_back(self, connection: Connection, run: Row[Any]) -> bool:
        why = f"worker {run.worker_id} was lost at step {run.step}"
        try:
            queue.requeue(connection, run.id, run.fence, why, self.settings.max_attempts)
        except ClaimLost:
            # somebody else noticed too, or it ended; only where several may write at once
            return False
        return True


def close(connection: Connection, worker: Row[Any]) -> None:
    """End a lost worker's row, unless it gave a sign since we looked."""
    unchanged = (workers.c.id == worker.id) & (workers.c.seen_at == worker.seen_at)
    connection.execute(
        update(workers)
        .where(unchanged, workers.c.ended_at.is_(None))
        .values(ended_at=database_now(), trouble="was lost")
    )


def orphans(connection: Connection) -> Sequence[Row[Any]]:
    """Runs that are running although the worker that held them has ended."""
    query: Select[Any] = (
        select(runs.c.id, runs.c.fence, runs.c.step, runs.c.worker_id)
        .select_from(runs.outerjoin(workers, workers.c.id == runs.c.worker_id))
        .where(
            runs.c.status == Status.RUNNING,
            or_(workers.c.id.is_(None), workers.c.ended_at.is_not(None)),
        )
    )
    return connection.execute(query).all()
