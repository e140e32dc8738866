"""The lane: where a worker has inquiries answered, one after the other, each by a process."""

import logging
import signal
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import endings
from app.executors.local import ChildProcess, LocalExecutor
from app.inquiries import desk
from app.inquiries.answering import answer_claimed
from app.inquiries.desk import Errand, ErrandLost
from app.runlog import last_line
from app.settings import Settings
from trainer.failures import Cause, Failure, failure_of
from trainer.store.database import reading, writing

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
OBEY_SECONDS = 1.0
"""How long a process may go on whose answer nobody wants, before it is killed."""
ENDING_SECONDS = 2.0
MOST_WORDS = 20_000
"""Of what a process printed the last so many letters go to the worker's log."""


class Lane:
    """Claims inquiries for one worker and watches the process that answers each."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        executor: LocalExecutor,
        worker_id: int,
        is_stopping: Callable[[], bool],
        *,
        alone: bool,
        turn: "threading.Lock | None" = None,
    ) -> None:
        self.engine, self.settings, self.executor = engine, settings, executor
        self.worker_id, self.is_stopping, self.alone = worker_id, is_stopping, alone
        self.turn = turn or threading.Lock()
        """Only one of a worker's lanes at a time: what measures is alone with its device."""
        self.peak_bytes = 0
        """The most that the process of the inquiry in hand was seen to take."""
        self.over = threading.Event()
        name = "inquiries"
        self.thread = threading.Thread(target=self.keep_answering, name=name, daemon=True)

    # -- a lane of its own, beside what the worker trains -----------------------------------

    def __enter__(self) -> "Lane":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def keep_answering(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            try:
                while not self.is_ending() and self.answer_next():
                    pass
            except Exception:
                # whatever it was: nobody else answers, and others wait
                log.exception("a lane of inquiries goes on after an error of its own")

    def is_ending(self) -> bool:
        return self.over.is_set() or self.is_stopping()

    # -- one inquiry ------------------------------------------------------------------------

    def answer_next(self) -> bool:
        """Have the next inquiry answered; whether there is one. It may have to wait for its turn:
        nothing else is to begin meanwhile."""
        if not self.is_waiting():
            return False
        if self.turn.acquire(timeout=POLL_SECONDS):
            try:
                errand = self.claim()
                if errand is None:
                    return False
                self.answer(errand)
            finally:
                self.turn.release()
        return True

    def answer(self, errand: Errand) -> None:
        """Have an inquiry answered, and see to it that it ends by name, whatever happens."""
        log.info("inquiry %d starts", errand.inquiry_id)
        try:
            exit_code, failure, words = self.watched(errand)
        except Exception as error:
            # for one, no process could be started
            log.exception("inquiry %d was not answered", errand.inquiry_id)
            exit_code, failure, words = None, failure_of(error, {}), ""
        self.settle(errand, exit_code, failure, last_line(words))
        log.info("inquiry %d ended", errand.inquiry_id)

    def watched(self, errand: Errand) -> tuple[int | None, Failure | None, str]:
        """How the process of an inquiry ended, what was wrong, and what it printed."""
        said: list[str] = []
        name = f"inquiry-{errand.inquiry_id}"
        kills_before = endings.memory_kills()
        process = self.executor.start(answer_claimed, errand, name, said.append)
        try:
            failure = self.watch(errand, process)
        finally:
            process.kill()
            process.wait(ENDING_SECONDS)
            process.finish_listening()
        words = "".join(said).strip()
        if words:
            # where an error came from: the row holds one sentence
            log.info("inquiry %d said:\n%s", errand.inquiry_id, words[-MOST_WORDS:])
        if failure is None and endings.memory_kills() != kills_before:
            failure = self.starvation(process.exit_code)
        return process.exit_code, failure, words

    def is_waiting(self) -> bool:
        try:
            with reading(self.engine) as connection:
                return desk.is_waiting(connection, self.worker_id, alone=self.alone)
        except SQLAlchemyError as error:
            log.warning("no look at the inquiries: %s", error)
            return False

    def claim(self) -> Errand | None:
        try:
            with writing(self.engine) as connection:
                return desk.claim(connection, self.worker_id, alone=self.alone)
        except SQLAlchemyError as error:
            log.warning("no inquiry was claimed: %s", error)
            return None

    def watch(self, errand: Errand, process: ChildProcess) -> Failure | None:
        """Wait for the end of the process; a failure when it took too long."""
        began, unwanted_since = time.monotonic(), None
        self.peak_bytes = 0
        limit = self.settings.inquiry_seconds
        while not process.wait(POLL_SECONDS):
            now = time.monotonic()
            self.peak_bytes = max(self.peak_bytes, process.memory_bytes())
            if now - began > limit:
                reason = f"there was no answer after {limit:g} s, so it was ended"
                return Failure(Cause.HUNG, reason)
            if self.is_ending():
                return None
            if not self.is_wanted(errand):
                unwanted_since = unwanted_since or now
                if now - unwanted_since > OBEY_SECONDS:
                    return None
        return None

    def starvation(self, exit_code: int | None) -> Failure | None:
        """The system ended some process for want of memory; a failure where it was this one."""
        if exit_code is None or -exit_code != signal.SIGKILL or self.is_ending():
            return None
        return endings.starved(self.peak_bytes)

    def is_wanted(self, errand: Errand) -> bool:
        try:
            with reading(self.engine) as connection:
                return desk.look(connection, errand)
        except ErrandLost:
            # mostly it has just concluded itself
            return False
        except SQLAlchemyError as error:
            log.warning("no look at inquiry %d: %s", errand.inquiry_id, error)
            return True

    def settle(
        self, errand: Errand, exit_code: int | None, failure: Failure | None, last_words: str
    ) -> None:
        """Name the end of an inquiry whose process could not do so itself."""
        while True:
            try:
                with writing(self.engine) as connection:
                    if not desk.look(connection, errand):
                        desk.withdraw(connection, errand)
                    elif failure is not None:
                        desk.fail(connection, errand, failure)
                    elif endings.was_killed_from_outside(exit_code) or self.is_ending():
                        why = f"its process {endings.death(exit_code)}; ask again"
                        number, is_lost = errand.inquiry_id, not self.is_ending()
                        desk.give_back(connection, number, errand.fence, why, is_lost=is_lost)
                    else:
                        desk.fail(connection, errand, endings.crash(exit_code, last_words))
                return
            except ErrandLost:
                # the usual case: its own process concluded it
                return
            except SQLAlchemyError as error:
                log.warning("the end of inquiry %d was not written: %s", errand.inquiry_id, error)
                if self.is_ending():
                    # whoever looks for lost workers gives it back
                    return
                time.sleep(POLL_SECONDS)
