"""Presence: the row and the lock by which a worker shows that it lives."""

import logging
import os
import platform
import threading
import uuid
from pathlib import Path
from types import TracebackType

from sqlalchemy import Engine, insert, update
from sqlalchemy.exc import SQLAlchemyError

from app.locks import ProcessLock
from app.models import workers
from app.settings import Settings
from trainer.build import choose_device
from trainer.environment import device_title
from trainer.failpoints import failpoint
from trainer.store.database import writing
from trainer.store.database_clock import database_now

log = logging.getLogger(__name__)

SIGNS_PER_LEASE = 5


def lock_path(folder: Path, token: str) -> Path:
    """The lock that a worker holds while it lives, for those who share its folder."""
    return folder / "locks" / f"worker-{token}.lock"


class Presence:
    """A registered worker inside the block, with a sign of life every so often.

    The signs come from a thread of the supervising process, which trains nothing itself: a
    training that holds its interpreter for minutes cannot hold them up.
    """

    def __init__(self, engine: Engine, settings: Settings, device: str) -> None:
        self.engine = engine
        self.device = device
        self.every = settings.lease_seconds / SIGNS_PER_LEASE
        self.token = uuid.uuid4().hex
        self.lock = ProcessLock(lock_path(settings.folder, self.token), str(os.getpid()))
        self.worker_id = 0
        self.over = threading.Event()
        self.is_disowned = False
        """Whether somebody took this worker for lost, and its runs with it."""
        self.thread = threading.Thread(target=self.give_signs, name="signs", daemon=True)

    def __enter__(self) -> "Presence":
        self.lock.__enter__()
        with writing(self.engine) as connection:
            result = connection.execute(
                insert(workers).values(
                    token=self.token,
                    host=platform.node(),
                    process=os.getpid(),
                    device=self.device,
                    device_title=device_title(choose_device(self.device)),
                    started_at=database_now(),
                    seen_at=database_now(),
                )
            )
        assert result.inserted_primary_key is not None
        self.worker_id = int(result.inserted_primary_key[0])
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self.thread.join()
        try:
            self.write(ended_at=database_now())
        except SQLAlchemyError as failure:
            log.warning("the end of this worker was not written: %s", failure)
        self.lock.__exit__(kind, error, trace)
        self.lock.path.unlink(missing_ok=True)

    def say(self, trouble: str) -> None:
        """Tell why this worker claims nothing; "" when it does again."""
        self.write(trouble=trouble)

    def give_signs(self) -> None:
        while not self.over.wait(self.every) and not self.is_disowned:
            failpoint("worker.sign")
            try:
                self.write(seen_at=database_now())
            except SQLAlchemyError as error:
                # the next sign may get through; the lease is five of them long
                log.warning("a sign of life was not written: %s", error)

    def write(self, **values: object) -> None:
        own = (workers.c.id == self.worker_id) & workers.c.ended_at.is_(None)
        with writing(self.engine, durable=False) as connection:
            written = connection.execute(update(workers).where(own).values(**values))
        self.is_disowned = not written.rowcount
