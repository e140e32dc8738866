"""Answering: what the process of one inquiry does, from its claim to its answer."""

import logging
import os
import signal
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from app.executors.training import Terminated, peak_of
from app.inquiries import desk
from app.inquiries.desk import Errand, ErrandLost
from app.settings import Settings
from app.sources import data_folders
from trainer.build import choose_device
from trainer.failpoints import failpoint
from trainer.failures import failure_of
from trainer.inquiries import AnyInquiry, Bench, Cancelled, Inquiry
from trainer.store.database import connect, writing

log = logging.getLogger(__name__)

TELL_SECONDS = 0.2
"""How often it is written how far an answer is."""


class Teller:
    """Writes how far an answer is, now and then. Raises Cancelled when nobody wants it any more."""

    def __init__(self, engine: Engine, errand: Errand) -> None:
        self.engine, self.errand = engine, errand
        self.told_at = 0.0

    def __call__(self, share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
        if time.monotonic() - self.told_at < TELL_SECONDS:
            return
        try:
            with writing(self.engine, durable=False) as connection:
                wanted = desk.report(connection, self.errand, share, doing, so_far)
        except OperationalError as error:
            # the answer can still be given when the database is there again
            log.warning("how far it is was not written: %s", error.orig)
            return
        self.told_at = time.monotonic()
        if not wanted:
            raise Cancelled


def answer_claimed(errand: Errand, settings: Settings) -> None:
    """Answer a claimed inquiry and conclude it, whatever happens short of the process dying."""
    engine = connect(settings.database_url)
    try:
        conclude(engine, errand, answered(engine, errand, settings))
    except ErrandLost as lost:
        log.warning("%s; nothing more is written", lost)
    except Cancelled:
        withdraw(engine, errand)
    except Terminated:
        # by the system: whoever cancels says so in the row. Its lane sees how this process ended
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception as error:
        log.error("%s", traceback.format_exc())
        failure = failure_of(error, {"peak_memory_bytes": peak_of(errand.device)})
        with suppress(ErrandLost), writing(engine) as connection:
            desk.fail(connection, errand, failure)
    finally:
        engine.dispose()


def answered(engine: Engine, errand: Errand, settings: Settings) -> Mapping[str, Any]:
    inquiry: Inquiry = TypeAdapter(AnyInquiry).validate_python(errand.request)
    bench = Bench(choose_device(errand.device), data_folders(settings), Teller(engine, errand))
    failpoint("inquiry.answer")
    return inquiry.answer(bench)


def conclude(engine: Engine, errand: Errand, answer: Mapping[str, Any]) -> None:
    with writing(engine) as connection:
        desk.conclude(connection, errand, answer)


def withdraw(engine: Engine, errand: Errand) -> None:
    try:
        with writing(engine) as connection:
            desk.withdraw(connection, errand)
    except ErrandLost as lost:
        log.warning("%s; nothing more is written", lost)
