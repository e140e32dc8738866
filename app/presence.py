"""Presence: the row by which a training process on a device shows that it lives."""

import logging
import os
import platform
import threading
from types import TracebackType

import psutil
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from app import queue
from app.models import workers
from trainer.build import choose_device
from trainer.environment import device_title
from trainer.store.database import writing

log = logging.getLogger(__name__)


class Presence:
    """Registered inside the block, with a sign of life every so often from a thread of its own."""

    def __init__(self, engine: Engine, device: str, lease_seconds: float) -> None:
        self.engine = engine
        self.device = device
        self.every = lease_seconds / 5
        self.worker_id = 0
        self.over = threading.Event()

    def __enter__(self) -> "Presence":
        now = queue.now()
        with writing(self.engine) as connection:
            result = connection.execute(
                insert(workers).values(
                    host=platform.node(),
                    process=os.getpid(),
                    device=self.device,
                    device_title=device_title(choose_device(self.device)),
                    started_at=now,
                    seen_at=now,
                )
            )
        assert result.inserted_primary_key is not None
        self.worker_id = int(result.inserted_primary_key[0])
        threading.Thread(target=self.give_signs, name="signs", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        with writing(self.engine) as connection:
            connection.execute(
                update(workers).filter_by(id=self.worker_id).values(ended_at=queue.now())
            )

    def give_signs(self) -> None:
        while not self.over.wait(self.every):
            try:
                with writing(self.engine, durable=False) as connection:
                    connection.execute(
                        update(workers).filter_by(id=self.worker_id).values(seen_at=queue.now())
                    )
            except SQLAlchemyError as error:
                # the next sign may get through; the lease is five of them long
                log.warning("a sign of life was not written: %s", error)


def end_predecessors(engine: Engine, device: str) -> None:
    """Close the rows of dead workers on this device; only for who holds the device's lock.

    Whoever trains in a terminal has no lock and lives: such a run is not to be taken away.
    """
    c = workers.c
    query = select(c.id, c.process, c.started_at).where(
        c.host == platform.node(), c.device == device, c.ended_at.is_(None)
    )
    with writing(engine) as connection:
        rows = connection.execute(query).all()
        dead = [row.id for row in rows if not is_alive(row.process, row.started_at)]
        connection.execute(update(workers).where(c.id.in_(dead)).values(ended_at=queue.now()))


def is_alive(process: int, since: float) -> bool:
    """Whether that process runs, and is not another that got its number later."""
    try:
        found = psutil.Process(process)
        return found.status() != psutil.STATUS_ZOMBIE and found.create_time() <= since
    except psutil.NoSuchProcess:
        return False
