"""Training: what the process of one run does, from its claim to its conclusion."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine

from app import queue
from app.models import Status
from app.queue import Claim, ClaimLost
from app.settings import Settings
from trainer.part import Refused
from trainer.run import End, Ending, Place, train_run
from trainer.store.database import connect, writing

log = logging.getLogger(__name__)


class ClaimOverseer:
    """Speaks for a claim: every call is guarded by its fence and raises ClaimLost without it."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def begin(self, connection: Connection, facts: Mapping[str, Any]) -> None:
        queue.report(connection, self.claim, **facts)

    def report(self, connection: Connection, step: int, train_seconds: float) -> str:
        return queue.report(connection, self.claim, step=step, train_seconds=train_seconds)

    def asked(self, connection: Connection) -> str:
        return queue.asked(connection, self.claim)


def train_claimed(claim: Claim, settings: Settings) -> None:
    """Train a claimed run and conclude it, whatever happens short of the process dying."""
    engine = connect(settings.database_url)
    place = Place(claim.run_id, settings.run_folder(claim.run_id), settings.data_folders)
    try:
        conclude(engine, claim, train_run(claim.config, place, engine, ClaimOverseer(claim)))
    except ClaimLost as lost:
        log.warning("%s; nothing more is written", lost)
    except Exception as error:
        log.error("%s", traceback.format_exc())
        with writing(engine) as connection:
            queue.conclude(connection, claim, Status.FAILED, reason_of(error))
    finally:
        engine.dispose()


def conclude(engine: Engine, claim: Claim, ending: Ending) -> None:
    with writing(engine) as connection:
        if ending.end == End.GIVEN_BACK:
            queue.give_back(connection, claim, "its worker was stopped; goes on when one is free")
            return
        status = Status(ending.end.value)
        reason = {
            Status.CANCELLED: f"cancelled at step {ending.step}",
            Status.PAUSED: f"paused at step {ending.step}",
            Status.FINISHED: f"stopped at step {ending.step}" if ending.stopped_early else "",
        }[status]
        queue.conclude(connection, claim, status, reason, ending.result, ending.evidence)


def reason_of(error: Exception) -> str:
    """One line for people: a refusal speaks for itself, anything else gets its type's name."""
    text = " ".join(str(error).split())
    if isinstance(error, Refused):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
