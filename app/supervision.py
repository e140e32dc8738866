"""Supervision: has one claimed run trained by a process, and sees to it that it ends by name."""

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, select
from sqlalchemy.exc import SQLAlchemyError

from app import endings, queue
from app.disk import Ballast
from app.executors.local import ChildProcess, LocalExecutor
from app.executors.training import train_claimed
from app.models import Asked, Status, runs
from app.queue import Claim, ClaimLost
from app.runlog import RunLog
from app.settings import Settings
from trainer.failures import Failure, is_disk_full
from trainer.store.database import reading, writing

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.2
PATIENCE = {Asked.CANCEL: (3.0, 7.0), Asked.GIVE_BACK: (20.0, 25.0)}
"""How long a run that was told to end may take before it is interrupted, and then killed; what is
to be given back may have a large checkpoint to write."""
ENDING_SECONDS = 2.0
"""How long a process may take to end after its run was concluded."""
SLOWEST_TIMES = 10
"""A run is slow, not hung, until it stands still for so many times its longest pause so far."""
STARTING_TIMES = 6
"""How much longer it may take before its first step: data are read, downloaded, compiled."""


class Pulse:
    """How long a run has not got on. By our own clock: those of others may jump."""

    def __init__(self, hang_seconds: float) -> None:
        self.hang_seconds = hang_seconds
        self.moved_at: float | None = None
        self.since = time.monotonic()
        self.slowest = 0.0

    def feel(self, moved_at: float, has_begun: bool) -> float | None:
        """Take in when it last moved; for how long it has hung, or None while it has not."""
        now = time.monotonic()
        if moved_at != self.moved_at:
            if self.moved_at is not None and has_begun:
                self.slowest = max(self.slowest, now - self.since)
            self.moved_at, self.since = moved_at, now
        times = 1 if has_begun else STARTING_TIMES
        patience = max(self.hang_seconds * times, self.slowest * SLOWEST_TIMES)
        return now - self.since if now - self.since > patience else None


@dataclass
class Supervision:
    """Watches runs of one worker, one after the other."""

    engine: Engine
    settings: Settings
    executor: LocalExecutor
    is_stopping: Callable[[], bool]
    """Whether this worker is to end: the run in hand is then given back."""
    is_disowned: Callable[[], bool]
    """Whether this worker was taken for lost, and the run is another's now."""
    meanwhile: Callable[[], None] = lambda: None
    """Done again and again while a run trains; to be quick."""
    peak_bytes: int = 0
    """The most that the process of the run in hand was seen to take."""

    def train(self, claim: Claim) -> None:
        """Have one run trained and see to it that it ends in a named status."""
        log.info("run %d starts, attempt %d", claim.run_id, claim.attempt)
        run_log = RunLog(self.engine, claim)
        kills_before = endings.memory_kills()
        process = self.executor.start(train_claimed, claim, f"run-{claim.run_id}", run_log.add)
        failure = None
        try:
            failure = self.watch(claim, process)
        except ClaimLost as lost:
            # mostly the run has just concluded itself, and its process is about to end
            if not process.wait(ENDING_SECONDS):
                log.warning("%s", lost)
        process.kill()
        process.wait(ENDING_SECONDS)
        process.finish_listening()
        run_log.flush()
        if failure is None and endings.memory_kills() != kills_before:
            failure = self.starvation(process.exit_code)
        self.settle(claim, process.exit_code, failure, run_log.last_line)
        log.info("run %d ended", claim.run_id)

    def watch(self, claim: Claim, process: ChildProcess) -> Failure | None:
        """Wait for the end of a run; pass on what is asked; a failure when it hung."""
        told_at: float | None = None
        pulse = Pulse(self.settings.hang_seconds)
        self.peak_bytes = 0
        while not process.wait(WATCH_SECONDS):
            self.meanwhile()
            if self.is_disowned():
                raise ClaimLost(f"run {claim.run_id} was taken over: this worker was held for lost")
            run = self.look(claim)
            if run is None:
                continue
            self.peak_bytes = max(self.peak_bytes, process.memory_bytes())
            if run.asked in PATIENCE:
                told_at = told_at or time.monotonic()
                insist(process, Asked(run.asked), time.monotonic() - told_at)
            hung = pulse.feel(run.moved_at, run.total_steps is not None)
            if hung is not None:
                log.warning("run %d hangs; killing it", claim.run_id)
                return endings.hang(hung, run.step, run.activity)
        return None

    def starvation(self, exit_code: int | None) -> Failure | None:
        """The system ended some process for want of memory; a failure where it was this one."""
        if exit_code is None or -exit_code != signal.SIGKILL:
            return None
        return endings.starved(self.peak_bytes)

    def look(self, claim: Claim) -> Row[Any] | None:
        """How the run is; None while the database does not answer. Raises ClaimLost."""
        try:
            with reading(self.engine) as connection:
                asked = queue.asked(connection, claim)
                query = select(runs).where(runs.c.id == claim.run_id)
                run = connection.execute(query).one()
            if self.is_stopping() and asked == Asked.NOTHING:
                with writing(self.engine) as connection:
                    queue.ask_to_give_back(connection, claim)
        except SQLAlchemyError as error:
            log.warning("no look at run %d: %s", claim.run_id, error)
            return None
        return run

    def settle(
        self, claim: Claim, exit_code: int | None, failure: Failure | None, last_words: str
    ) -> None:
        """Name the end of a run whose process could not do so itself, however long it takes.

        Nobody else would: as long as this worker gives signs of life the run counts as running.
        """
        while not self.is_disowned():
            try:
                with writing(self.engine) as connection:
                    self.name_end(connection, claim, exit_code, failure, last_words)
                return
            except ClaimLost:
                # the usual case: the run's own process concluded it
                return
            except SQLAlchemyError as error:
                log.warning("the end of run %d was not written: %s", claim.run_id, error)
                if is_disk_full(error):
                    Ballast(self.settings).throw_off()
                time.sleep(WATCH_SECONDS)

    def name_end(
        self,
        connection: Connection,
        claim: Claim,
        exit_code: int | None,
        failure: Failure | None,
        last_words: str,
    ) -> None:
        asked = queue.asked(connection, claim)
        if asked == Asked.CANCEL:
            reason = "cancelled; it did not obey and was killed"
            queue.conclude(connection, claim, Status.CANCELLED, reason)
        elif failure is not None:
            queue.fail(connection, claim, failure)
        elif not endings.was_killed_from_outside(exit_code):
            queue.fail(connection, claim, endings.crash(exit_code, last_words))
        else:
            step = connection.execute(select(runs.c.step).filter_by(id=claim.run_id)).scalar_one()
            why = f"its process {endings.death(exit_code)} at step {step}"
            most = self.settings.max_attempts
            queue.requeue(connection, claim.run_id, claim.fence, why, most)


def insist(process: ChildProcess, asked: Asked, waited: float) -> None:
    """Interrupt a process that does not obey, and later kill it."""
    terminate_after, kill_after = PATIENCE[asked]
    if waited > kill_after:
        log.warning("%s does not obey; killing it", process.name)
        process.kill()
    elif waited > terminate_after:
        process.terminate()
