"""Training: what the process of one run does, from its claim to its conclusion."""

import logging
import os
import signal
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from app import queue
from app.disk import Ballast
from app.events import note_event
from app.models import Asked, Status
from app.queue import Claim, ClaimLost
from app.settings import Settings
from app.sources import data_folders
from trainer.build import choose_device
from trainer.failpoints import failpoint
from trainer.failures import Cause, failure_of
from trainer.memory import peak_memory_bytes
from trainer.part import Refused
from trainer.place import Place
from trainer.run import End, Ending, train_run
from trainer.store.database import connect, writing

log = logging.getLogger(__name__)


class Terminated(BaseException):
    """The worker does not want to wait for this run any longer."""


class ClaimOverseer:
    """Speaks for a claim: every call is guarded by its fence and raises ClaimLost without it."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def begin(self, connection: Connection, facts: Mapping[str, Any]) -> None:
        queue.report(connection, self.claim, **facts)
        if step := facts["step"]:
            where = f"from the checkpoint at step {step}"
            note_event(connection, self.claim.run_id, "went on", self.claim.holder, where)

    def report(self, connection: Connection, step: int, train_seconds: float, activity: str) -> str:
        return queue.report(
            connection, self.claim, step=step, train_seconds=train_seconds, activity=activity
        )

    def say(self, connection: Connection, activity: str) -> None:
        queue.say(connection, self.claim, activity)

    def saved(self, connection: Connection) -> None:
        queue.report(connection, self.claim, tries=0)

    def asked(self, connection: Connection) -> str:
        return queue.asked(connection, self.claim)


def train_claimed(claim: Claim, settings: Settings) -> None:
    """Train a claimed run and conclude it, whatever happens short of the process dying."""
    engine = connect(settings.database_url)
    place = Place(
        claim.run_id,
        settings.run_folder(claim.run_id),
        data_folders(settings),
        claim.device,
        claim.fence,
        settings.reserve_megabytes * 10**6,
    )
    try:
        conclude(engine, claim, train_run(claim.config, place, engine, ClaimOverseer(claim)))
    except ClaimLost as lost:
        log.warning("%s; nothing more is written", lost)
    except Terminated:
        conclude_terminated(engine, claim)
    except Exception as error:
        log.error("%s", traceback.format_exc())
        conclude_failed(engine, claim, settings, error)
    finally:
        engine.dispose()


def conclude(engine: Engine, claim: Claim, ending: Ending) -> None:
    failpoint("run.conclude")
    with writing(engine) as connection:
        if ending.end == End.GIVEN_BACK:
            queue.give_back(connection, claim, f"saved at step {ending.step}; waits to go on")
            return
        status = Status(ending.end.value)
        reason = {
            Status.CANCELLED: f"cancelled at step {ending.step}",
            Status.PAUSED: f"paused at step {ending.step}",
            Status.FINISHED: f"stopped at step {ending.step}" if ending.stopped_early else "",
        }[status]
        queue.conclude(connection, claim, status, reason, ending.result, ending.evidence)


def conclude_failed(engine: Engine, claim: Claim, settings: Settings, error: Exception) -> None:
    failure = failure_of(error, {"peak_memory_bytes": peak_of(claim.device)})
    if failure.cause == Cause.DISK_FULL:
        # what the run came to must still be written down
        Ballast(settings).throw_off()
    try:
        with writing(engine) as connection:
            if isinstance(error, OperationalError) and failure.cause == Cause.EXCEPTION:
                # it was locked for long, or its server went away: not what the config did
                why = f"the database did not answer ({error.orig})"
                queue.requeue(connection, claim.run_id, claim.fence, why, settings.max_attempts)
            else:
                queue.fail(connection, claim, failure)
    except ClaimLost as lost:
        log.warning("%s; nothing more is written", lost)


def peak_of(device: str) -> int:
    try:
        return peak_memory_bytes(choose_device(device))
    except Refused:
        # no such device, which then is what went wrong
        return 0


def conclude_terminated(engine: Engine, claim: Claim) -> None:
    """Conclude what was to be cancelled; otherwise die of the signal, so that others see it."""
    try:
        with writing(engine) as connection:
            if queue.asked(connection, claim) == Asked.CANCEL:
                reason = "cancelled in the middle of a step"
                queue.conclude(connection, claim, Status.CANCELLED, reason)
                return
    except ClaimLost as lost:
        log.warning("%s; nothing more is written", lost)
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def heed_termination() -> None:
    """Let SIGTERM interrupt the training wherever it is, a loader that hangs included."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
