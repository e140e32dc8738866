"""Worker: claims queued runs for one device and watches the process that trains each."""

import logging
import os
import signal
import threading
import time
from types import FrameType

from sqlalchemy import Engine, select

from app import queue
from app.db import open_database
from app.devices import DeviceLock, device_name
from app.executors.local import LocalExecutor, RunProcess
from app.models import Asked, Status, runs
from app.presence import Presence, end_predecessors
from app.queue import Claim, ClaimLost
from app.runlog import RunLog
from app.settings import Settings
from trainer.store.database import reading, writing

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
WATCH_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""How long a run that was asked to cancel has to do so before its processes are killed."""
ENDING_SECONDS = 2.0
"""How long a process may take to end after its run was concluded."""


class Worker:
    """One per device. Holds the device's lock while it lives."""

    def __init__(self, settings: Settings, device: str, *, parent: int | None = None) -> None:
        self.settings = settings
        self.device = device_name(device)
        self.engine: Engine = open_database(settings)
        self.executor = LocalExecutor(settings)
        # told, not asked of the system: the server may have died while this process was starting
        self.parent = parent
        self.stopping = threading.Event()

    def work(self) -> None:
        """Work until told to stop. Raises Refused when the device has a worker already."""
        with DeviceLock(self.settings.folder, self.device):
            # the lock was free, so whoever held it before is dead
            end_predecessors(self.engine, self.device)
            with Presence(self.engine, self.device, self.settings.lease_seconds) as presence:
                log.info("worker %d works on %s", presence.worker_id, self.device)
                self.executor.warm_up()
                while not self.is_to_end():
                    if (claim := self.claim(presence.worker_id)) is not None:
                        self.train(claim)
                    else:
                        self.stopping.wait(POLL_SECONDS)
            log.info("worker %d ended", presence.worker_id)

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """End soon: the run in hand saves a checkpoint and goes back to the queue."""
        self.stopping.set()

    def is_to_end(self) -> bool:
        return self.stopping.is_set() or self.is_orphaned()

    def is_orphaned(self) -> bool:
        """Whether the server that started this worker is gone; the run in hand is then the last."""
        return self.parent is not None and os.getppid() != self.parent

    def claim(self, worker_id: int) -> Claim | None:
        # looked at before it is locked: an idle worker must not take the write lock all the time
        with reading(self.engine) as connection:
            waiting = select(runs.c.id).where(runs.c.status.in_([Status.QUEUED, Status.RUNNING]))
            if connection.execute(waiting.limit(1)).first() is None:
                return None
        with writing(self.engine) as connection:
            queue.requeue_lost(connection, self.settings.lease_seconds, self.settings.max_attempts)
            return queue.claim(connection, worker_id)

    def train(self, claim: Claim) -> None:
        """Have one run trained and see to it that it ends in a named status."""
        log.info("run %d starts, attempt %d", claim.run_id, claim.attempt)
        run_log = RunLog(self.engine, claim)
        process = self.executor.start(claim, run_log.add)
        try:
            self.watch(claim, process)
        except ClaimLost as lost:
            # mostly the run has just concluded itself, and its process is about to end
            if not process.wait(ENDING_SECONDS):
                log.warning("%s", lost)
                process.kill()
                process.wait(GRACE_SECONDS)
        process.finish_listening()
        run_log.flush()
        self.settle(claim, process.death, run_log.last_line)

    def watch(self, claim: Claim, process: RunProcess) -> None:
        """Wait for the end of a run; pass on a stop of this worker; kill what does not obey."""
        told_at: float | None = None
        while not process.wait(WATCH_SECONDS):
            with reading(self.engine) as connection:
                asked = queue.asked(connection, claim)
            if self.stopping.is_set() and asked == Asked.NOTHING:
                with writing(self.engine) as connection:
                    queue.ask_to_give_back(connection, claim)
            if asked in (Asked.CANCEL, Asked.GIVE_BACK):
                told_at = told_at or time.monotonic()
                if time.monotonic() - told_at > GRACE_SECONDS:
                    log.warning("run %d does not obey; killing it", claim.run_id)
                    process.kill()

    def settle(self, claim: Claim, death: str, last_words: str) -> None:
        """Name the end of a run whose process could not do so itself."""
        try:
            with writing(self.engine) as connection:
                asked = queue.asked(connection, claim)
                if asked == Asked.CANCEL:
                    queue.conclude(
                        connection, claim, Status.CANCELLED, "cancelled; had to be killed"
                    )
                elif asked == Asked.GIVE_BACK:
                    queue.give_back(connection, claim, "its worker was stopped")
                else:
                    reason = f"its process was {death}" if death else "its process ended early"
                    words = f"; its last words: {last_words[:300]}" if last_words else ""
                    queue.conclude(connection, claim, Status.FAILED, reason + words)
        except ClaimLost:
            # the usual case: the run's own process concluded it
            pass
        log.info("run %d ended", claim.run_id)


def run_worker(settings: Settings, device: str, *, parent: int | None = None) -> None:
    """A worker in this process, until SIGINT, SIGTERM or the end of a parent that is named."""
    worker = Worker(settings, device, parent=parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, worker.stop)
    worker.work()
