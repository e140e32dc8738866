"""Worker: claims queued runs for one device and has each trained under supervision."""

import logging
import os
import signal
import threading
import time
from types import FrameType

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from app import disk, queue
from app.db import open_database
from app.devices import DeviceLock, device_name
from app.executors.local import LocalExecutor
from app.inquiries.lane import Lane
from app.liveness import Liveness
from app.models import Status, runs
from app.presence import Presence
from app.queue import Claim
from app.settings import Settings
from app.supervision import Supervision
from trainer.part import Refused
from trainer.store.database import reading, writing

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
LOOK_AROUND_SECONDS = 1.0
"""How often a worker looks for others that are gone, and at the disk."""


class Worker:
    """One per device. Holds the device's lock while it lives."""

    def __init__(self, settings: Settings, device: str, *, parent: int | None = None) -> None:
        self.settings = settings
        self.device = device_name(device)
        self.engine: Engine = open_database(settings)
        self.executor = LocalExecutor(settings)
        self.ballast = disk.Ballast(settings)
        # told, not asked of the system: the server may have died while this process was starting
        self.parent = parent
        self.stopping = threading.Event()
        self.turn = threading.Lock()
        self.looked_around = 0.0
        self.trouble = ""

    def work(self) -> None:
        """Work until told to stop. Raises Refused when the device has a worker already, or when
        this worker was taken for lost."""
        with (
            DeviceLock(self.settings.folder, self.device),
            Presence(self.engine, self.settings, self.device) as presence,
        ):
            log.info("worker %d works on %s", presence.worker_id, self.device)
            self.executor.warm_up()
            self.train_what_comes(presence)
            log.info("worker %d ended", presence.worker_id)
            if presence.is_disowned:
                raise Refused(
                    f"worker {presence.worker_id} gave no sign for too long and was taken for "
                    "lost; its run went to another. Start it anew"
                )

    def train_what_comes(self, presence: Presence) -> None:
        liveness = Liveness(self.engine, self.settings, presence.token)
        supervision = Supervision(
            self.engine,
            self.settings,
            self.executor,
            self.stopping.is_set,
            lambda: presence.is_disowned,
            lambda: self.look_around(liveness),
        )
        with self.lane(presence, alone=False):
            # what needs the device for itself comes between runs, and before them: it is short
            between_runs = self.lane(presence, alone=True)
            while not self.is_to_end(presence):
                self.look_around(liveness)
                self.mind_the_disk(presence)
                if between_runs.answer_next():
                    continue
                if not self.trouble and (claim := self.claim(presence.worker_id)) is not None:
                    supervision.train(claim)
                else:
                    self.stopping.wait(POLL_SECONDS)

    def lane(self, presence: Presence, *, alone: bool) -> Lane:
        return Lane(
            self.engine,
            self.settings,
            self.executor,
            presence.worker_id,
            # not that its server is gone: the next one has questions while the last run trains
            lambda: self.stopping.is_set() or presence.is_disowned,
            alone=alone,
            turn=self.turn,
        )

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """End soon: the run in hand saves a checkpoint and goes back to the queue."""
        self.stopping.set()

    def is_to_end(self, presence: Presence) -> bool:
        return self.stopping.is_set() or self.is_orphaned() or presence.is_disowned

    def is_orphaned(self) -> bool:
        """Whether the server that started this worker is gone; the run in hand is then the last."""
        return self.parent is not None and os.getppid() != self.parent

    def look_around(self, liveness: Liveness) -> None:
        """Give back the runs of workers that are gone."""
        if time.monotonic() - self.looked_around > LOOK_AROUND_SECONDS:
            liveness.look()
            self.looked_around = time.monotonic()

    def mind_the_disk(self, presence: Presence) -> None:
        """Start nothing while the disk is nearly full, and say so."""
        trouble = disk.trouble(self.settings)
        if trouble != self.trouble:
            log.warning("%s", trouble or "the disk has room again")
            self.trouble = trouble
            try:
                presence.say(trouble)
            except SQLAlchemyError as error:
                log.warning("that was not written: %s", error)
        if not trouble:
            self.ballast.take_on()

    def claim(self, worker_id: int) -> Claim | None:
        """The next run, or None where there is none or the database does not answer."""
        try:
            # looked at before it is locked: an idle worker must not take the write lock all
            # the time
            with reading(self.engine) as connection:
                waiting = select(runs.c.id).where(runs.c.status == Status.QUEUED).limit(1)
                if connection.execute(waiting).first() is None:
                    return None
            with writing(self.engine) as connection:
                return queue.claim(connection, worker_id)
        except SQLAlchemyError as error:
            log.warning("no look at the queue: %s", error)
            return None


def run_worker(settings: Settings, device: str, *, parent: int | None = None) -> None:
    """A worker in this process, until SIGINT, SIGTERM or the end of a parent that is named."""
    worker = Worker(settings, device, parent=parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, worker.stop)
    worker.work()
