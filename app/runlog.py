"""RunLog: keeps what a run's process prints, in pieces, while it prints."""

import logging
import re
import threading
import time

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.functions import coalesce
from sqlalchemy.sql.functions import max as greatest

from app import queue
from app.queue import Claim, ClaimLost
from trainer.store.database import writing
from trainer.store.tables import log_chunks

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.3
MOST_BYTES = 20_000_000
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\].*?(\x07|\x1b\\)|[@-Z\\-_])")
"""Colours and other orders to a terminal."""


class RunLog:
    """Gathers output for a moment and writes it as one row; called from one listening thread."""

    def __init__(self, engine: Engine, claim: Claim) -> None:
        self.engine = engine
        self.claim = claim
        self.written = 0
        self.last_line = ""
        self.waiting: list[str] = []
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def add(self, text: str) -> None:
        with self.lock:
            self.waiting.append(text)
            self.last_line = last_line(text) or self.last_line
            if self.timer is None:
                self.timer = threading.Timer(GATHER_SECONDS, self.flush)
                self.timer.daemon = True
                self.timer.start()

    def flush(self) -> None:
        """Write what has been gathered. A log that cannot be written must not end the run."""
        with self.lock:
            text, self.waiting, self.timer = "".join(self.waiting), [], None
            if not text or self.written > MOST_BYTES:
                return
            self.written += len(text)
            if self.written > MOST_BYTES:
                text += f"\n(the log ends here, after {MOST_BYTES // 10**6} MB)\n"
            try:
                self.write(text)
            except (ClaimLost, SQLAlchemyError) as error:
                log.warning("the log of run %d was not written: %s", self.claim.run_id, error)

    def write(self, text: str) -> None:
        own = log_chunks.c.run_id == self.claim.run_id
        following = select(coalesce(greatest(log_chunks.c.number), -1) + 1).where(own)
        with writing(self.engine, durable=False) as connection:
            queue.must_be_latest(connection, self.claim)
            connection.execute(
                insert(log_chunks).values(
                    run_id=self.claim.run_id,
                    number=following.scalar_subquery(),
                    attempt=self.claim.attempt,
                    written_at=time.time(),
                    # PostgreSQL's text takes no NUL
                    text=text.replace("\0", "\N{REPLACEMENT CHARACTER}"),
                )
            )


def without_escapes(text: str) -> str:
    return ESCAPES.sub("", text)


def last_line(text: str) -> str:
    """The last line with something on it, without terminal colours."""
    lines = [line.strip() for line in without_escapes(text).splitlines()]
    return next((line for line in reversed(lines) if line), "")
