"""Recorder: takes values from the training thread and writes them from a thread of its own."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from sqlalchemy import Connection, Engine

from trainer.overseer import Overseer
from trainer.store.database import reading, writing
from trainer.store.packing import Points
from trainer.store.writer import SeriesKey, Writer

BLOCK_SECONDS = 0.25
"""How long values wait on the device before they are read back, all at once."""
LISTEN_SECONDS = 0.5
"""How often the recorder listens for what is asked of the run while it has nothing to write."""

Write = Callable[[Connection, Writer], None]


@dataclass
class Block:
    """Values of many steps, still on the device: one list per series."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: dict[str, list[torch.Tensor | float]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, torch.Tensor | float]) -> None:
        self.steps.append(step)
        self.times.append(time.time())
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def read_back(self) -> dict[SeriesKey, Points]:
        """The block as points in host memory: one wait for the device per series."""
        steps, times = np.asarray(self.steps), np.asarray(self.times)
        return {
            SeriesKey(name): Points(steps, in_host_memory(values), times)
            for name, values in self.values.items()
        }


def in_host_memory(values: list[torch.Tensor | float]) -> npt.NDArray[np.float64]:
    if isinstance(values[0], torch.Tensor):
        stacked = torch.stack([v for v in values if isinstance(v, torch.Tensor)])
        return stacked.cpu().double().numpy()
    return np.asarray(values, np.float64)


class Recorder:
    """Gathers values in blocks and appends them to the store within a second.

    The thread that trains calls every method but the last three; another, started here, writes.
    """

    def __init__(self, engine: Engine, writer: Writer, overseer: Overseer) -> None:
        self.engine = engine
        self.writer = writer
        self.overseer = overseer
        self.asked = ""
        self.failure: BaseException | None = None
        self.block = Block()
        self.block_ends = time.perf_counter() + BLOCK_SECONDS
        self.step = 0
        self.train_seconds = 0.0
        self.pending: queue.SimpleQueue[tuple[Write | None, bool]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.keep_writing, name="recorder")
        self.thread.start()

    def add(self, step: int, values: Mapping[str, torch.Tensor | float]) -> None:
        """Take the values of one step; tensors stay where they are until the block ends."""
        self.block.add(step, values)

    def add_now(self, step: int, values: Mapping[SeriesKey, float]) -> None:
        """Take values that are in host memory already; at most one of a series per step."""
        steps, times = np.asarray([step]), np.asarray([time.time()])
        points = {key: Points(steps, np.asarray([value]), times) for key, value in values.items()}
        self.write(lambda connection, writer: append(connection, writer, points))

    def turn(self, step: int, train_seconds: float) -> None:
        """End the block when its time has come. Called at every step; raises a writer's failure."""
        if self.failure:
            raise self.failure
        if time.perf_counter() >= self.block_ends:
            self.hand_over(step, train_seconds)

    def hand_over(self, step: int, train_seconds: float) -> None:
        """Read the block back and give it to the writing thread."""
        self.step, self.train_seconds = step, train_seconds
        block, self.block = self.block, Block()
        columns = block.read_back()
        self.write(lambda connection, writer: append(connection, writer, columns))
        self.block_ends = time.perf_counter() + BLOCK_SECONDS

    def write(self, write: Write, *, durable: bool = False) -> None:
        """Queue something to write, after all that came before it."""
        self.pending.put((write, durable))

    def close(self) -> None:
        """Write what is left and end the thread. Raises what the writer met."""
        self.pending.put((None, False))
        self.thread.join()
        if self.failure:
            raise self.failure

    def keep_writing(self) -> None:
        try:
            while self.write_what_waits():
                pass
        except BaseException as failure:  # told to the training thread, which raises it
            self.failure = failure

    def write_what_waits(self) -> bool:
        """One transaction with everything that waits; False when there will be no more."""
        writes, durable, goes_on = self.waiting()
        if not writes:
            with reading(self.engine) as connection:
                self.asked = self.overseer.asked(connection)
            return goes_on
        with writing(self.engine, durable=durable) as connection:
            # first of all: it checks that this process still may write
            asked = self.overseer.report(connection, self.step, self.train_seconds)
            for write in writes:
                write(connection, self.writer)
        self.asked = asked
        return goes_on

    def waiting(self) -> tuple[list[Write], bool, bool]:
        """What waits to be written, whether it must be durable, and whether more will come."""
        writes: list[Write] = []
        durable = False
        try:
            write, lasting = self.pending.get(timeout=LISTEN_SECONDS)
            while write is not None:
                writes.append(write)
                durable |= lasting
                write, lasting = self.pending.get_nowait()
        except queue.Empty:
            return writes, durable, True
        return writes, durable, False


def append(connection: Connection, writer: Writer, columns: Mapping[SeriesKey, Points]) -> None:
    for key, points in columns.items():
        writer.append(connection, key, points)
