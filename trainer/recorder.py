"""Recorder: takes values from the training thread and writes them from a thread of its own."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from trainer.block import Block, Columns, Value
from trainer.clock import Clock
from trainer.failpoints import failpoint
from trainer.failures import Diverged, is_disk_full
from trainer.overseer import Overseer
from trainer.store.database import reading, writing
from trainer.store.packing import Points
from trainer.store.writer import SeriesKey, Writer

log = logging.getLogger(__name__)

BLOCK_SECONDS = 0.25
"""How long values wait on the device before they are read back, all at once."""
LISTEN_SECONDS = 0.5
"""How often the recorder listens for what is asked of the run while it has nothing to write."""
STUCK_SECONDS = 5.0
"""After this long in one activity it is told, so that people see what a run waits for."""

CLOSING_SECONDS = 60.0
"""How long the end of a run waits for a database that does not answer."""

Write = Callable[[Connection, Writer], None]


@dataclass(frozen=True)
class Task:
    """Something to write, and what to do once it is committed."""

    columns: Columns = field(default_factory=dict)
    write: Write | None = None
    prepare: Callable[[], object] | None = None
    """What takes long and needs no database, such as packing; done before it is locked."""
    durable: bool = False
    afterwards: Callable[[], None] | None = None
    urgent: bool = False
    """Whether somebody waits for it: it shares no transaction with what comes after."""


class Recorder:
    """Gathers values in blocks and appends them to the store within a second.

    The thread that trains calls every public method; another, started here, writes.
    """

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        overseer: Overseer,
        clock: Clock,
        *,
        stop_when_diverged: bool = False,
    ) -> None:
        self.engine = engine
        self.writer = writer
        self.overseer = overseer
        self.clock = clock
        self.stop_when_diverged = stop_when_diverged
        self.asked = ""
        self.failure: BaseException | None = None
        self.block = Block()
        # the first step is a block of its own: somebody is waiting for it
        self.block_ends = 0.0
        self.last_finite: Mapping[str, float] | None = None
        self.step = 0
        self.train_seconds = 0.0
        self.unwritten: list[Task] = []
        self.has_begun = False
        self.goes_on = True
        self.closed_at = 0.0
        self.committed_at = 0.0
        self.seen_lap = 0.0
        self.told_stuck = 0.0
        self.pending: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.keep_writing, name="recorder")
        self.thread.start()

    # -- for the thread that trains ---------------------------------------------------------

    def add(self, step: int, values: Mapping[str, Value]) -> None:
        """Take the values of one step; tensors stay where they are until the block ends."""
        self.block.add(step, values)

    def add_scores(self, step: int, values: Mapping[SeriesKey, float]) -> None:
        """Take what is measured now and then, of a series at most one per step."""
        self.block.add_scores(step, values)

    def turn(self, step: int) -> None:
        """End the block when its time has come. Called at every step.

        Raises what the writing thread met, and Diverged.
        """
        if self.failure:
            raise self.failure
        # a moment ago is near enough, and costs no look at the clock
        if self.clock.last >= self.block_ends:
            self.hand_over(step)

    def hand_over(self, step: int) -> None:
        """Read the block back and give it to the writing thread. Raises Diverged.

        The steps after one that diverged are dropped, and what the network then scored: when it
        is noticed depends on the clock, where the curves end must not.
        """
        block, self.block = self.block, Block()
        columns, scores, diverged = block.read_back(), block.scored(), None
        if self.stop_when_diverged:
            columns, diverged = self.cut_where_diverged(columns)
        if diverged:
            before = diverged.step - 1
            scores = {key: points.until(before) for key, points in scores.items()}
        self.step = diverged.step if diverged else step
        self.train_seconds = self.clock.train_seconds
        self.pending.put(Task({**columns, **scores}, urgent=not self.block_ends))
        self.block_ends = time.perf_counter() + BLOCK_SECONDS
        if diverged:
            raise diverged

    def cut_where_diverged(self, columns: Columns) -> tuple[Columns, Diverged | None]:
        """The columns up to the first step whose loss is not finite, and what to raise for it."""
        loss = columns.get(SeriesKey("train_loss"))
        if loss is None:
            return columns, None
        finite = np.isfinite(loss.values)
        good = len(loss) if finite.all() else int(finite.argmin())
        if good:
            values = {key.name: float(points.values[good - 1]) for key, points in columns.items()}
            self.last_finite = {"step": int(loss.steps[good - 1]), **values}
        if good == len(loss):
            return columns, None
        diverged = Diverged(int(loss.steps[good]), float(loss.values[good]), self.last_finite)
        return {key: points[: good + 1] for key, points in columns.items()}, diverged

    def write(
        self,
        write: Write,
        *,
        prepare: Callable[[], object] | None = None,
        durable: bool = False,
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        """Queue something to write, after all that came before it."""
        self.pending.put(Task({}, write, prepare, durable, afterwards, urgent=durable))

    def close(self) -> None:
        """Write what is left and end the thread. Raises what the writer met."""
        self.pending.put(None)
        self.thread.join()
        if self.failure:
            raise self.failure

    # -- for the thread that writes ---------------------------------------------------------

    def keep_writing(self) -> None:
        try:
            while self.write_what_waits():
                pass
        except BaseException as failure:  # told to the training thread, which raises it
            self.failure = failure

    def write_what_waits(self) -> bool:
        """One transaction with everything that waits; False when there will be no more."""
        self.gather()
        try:
            lap = self.clock.last
            if self.unwritten or lap != self.seen_lap:
                self.asked = self.commit()
                self.seen_lap = lap
            else:
                self.listen()
        except OperationalError as error:
            self.bear(error)
            return True
        return self.goes_on

    def bear(self, error: OperationalError) -> None:
        """Try again later when the database did not let us begin; training need not wait for it."""
        if self.has_begun or is_disk_full(error):
            raise error
        if not self.goes_on and time.monotonic() > self.closed_at + CLOSING_SECONDS:
            raise error
        log.warning("nothing can be recorded at the moment: %s", error.orig)
        time.sleep(LISTEN_SECONDS)

    def commit(self) -> str:
        """Write all, and that the run has got on; what is asked of it."""
        failpoint("recorder.begin")
        tasks, self.has_begun = self.unwritten, False
        with writing(self.engine, durable=any(task.durable for task in tasks)) as connection:
            # first of all: it checks that this process still may write
            asked = self.overseer.report(
                connection, self.step, self.train_seconds, self.clock.doing
            )
            # from here on the writer's own state would have to be taken back too
            self.has_begun = True
            self.writer.append(connection, together([task.columns for task in tasks]))
            for task in tasks:
                if task.write:
                    task.write(connection, self.writer)
            failpoint("recorder.commit")
        failpoint("recorder.committed")
        self.unwritten, self.has_begun = [], False
        self.committed_at = time.monotonic()
        for task in tasks:
            if task.afterwards:
                task.afterwards()
        return asked

    def listen(self) -> None:
        """Hear what is asked; tell once what the run is stuck in. Nothing got on meanwhile."""
        with reading(self.engine) as connection:
            self.asked = self.overseer.asked(connection)
        if self.clock.seconds_since > STUCK_SECONDS and self.told_stuck != self.seen_lap:
            self.told_stuck = self.seen_lap
            with writing(self.engine, durable=False) as connection:
                self.overseer.say(connection, self.clock.doing)

    def gather(self) -> None:
        """Take in what waits to be written; comes back without when for a while nothing did.

        Short epochs hand over often, and each transaction takes the interpreter from the thread
        that trains: what is not urgent waits for the rest of its quarter second.
        """
        if self.unwritten or not self.goes_on:
            return
        try:
            task = self.pending.get(timeout=LISTEN_SECONDS)
            while task is not None:
                if task.prepare:
                    task.prepare()
                self.unwritten.append(task)
                due = self.committed_at + BLOCK_SECONDS - time.monotonic()
                task = self.pending.get(timeout=0 if task.urgent else max(0.0, due))
        except queue.Empty:
            return
        self.goes_on = False
        self.closed_at = time.monotonic()


def together(parts: Sequence[Columns]) -> Columns:
    """The columns of several blocks as those of one."""
    found: dict[SeriesKey, list[Points]] = {}
    for part in parts:
        for key, points in part.items():
            found.setdefault(key, []).append(points)
    return {key: Points.joined(points) for key, points in found.items()}
