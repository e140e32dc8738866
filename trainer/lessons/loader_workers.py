"""loader_workers: how many loader processes pay on this machine."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch.utils.data import DataLoader, Dataset

from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.loader import usable_cores

WORKERS = (0, 1, 2, 3, 4)
SECONDS = 0.35
WARM = 2
NEAR_BEST = 0.95


class Pace(NamedTuple):
    """What came of one number of workers."""

    workers: int
    examples_per_second: float
    waiting: float
    """Share of the time that the training process waited for a batch."""
    first_batch_ms: float


class LoaderWorkersLesson(Lesson):
    """Load examples that each take a while to decode, train a while on each batch, and count.

    A loader process pays only while the training waits: once batches lie ready, more of them cost
    memory and take cores from the training. Decoding needs a core; reading from a slow disk or a
    network mostly waits, and there more processes pay than there are cores.
    """

    title: ClassVar[str] = "How many workers pay here"
    needs_device_alone: ClassVar[bool] = True
    note: ClassVar[int] = 5
    name: Literal["loader_workers"] = "loader_workers"
    decode_ms: float = Field(1.0, ge=0, le=5, description="Milliseconds that an example takes.")
    waits: bool = Field(
        False, description="It waits, as for a disk or a network, instead of computing."
    )
    train_ms: float = Field(
        10.0, ge=0, le=50, description="Milliseconds that the training computes on a batch."
    )
    batch_size: int = Field(16, ge=1, le=64, description="Examples in a batch.")

    def show(self, bench: Bench) -> Shown:
        paces: list[Pace] = []
        for number, workers in enumerate(WORKERS):
            bench.tell(number / len(WORKERS), f"{workers} workers")
            paces.append(self.measured(workers))
        best = max(pace.examples_per_second for pace in paces)
        knee = next(p for p in paces if p.examples_per_second >= NEAR_BEST * best)
        counts = list(WORKERS)
        return Shown(
            verdict=self.verdict(paces, knee),
            figures=(
                Chart(
                    "Examples trained a second",
                    "workers",
                    "examples/s",
                    (Line("measured", counts, [p.examples_per_second for p in paces]),),
                ),
                Chart(
                    "Of the time, waiting for data",
                    "workers",
                    "share",
                    (Line("waiting", counts, [p.waiting for p in paces]),),
                ),
                Table(
                    "Measured",
                    ("Workers", "Examples/s", "Waiting share", "First batch, ms"),
                    [tuple(pace) for pace in paces],
                ),
            ),
            remarks=(
                f"This machine gives {usable_cores()} cores to the process that asked. The loader "
                "bench measures the same with real tasks.",
                "Batches and their order do not depend on the number of workers here: what is "
                "drawn for an example follows from the seed, the epoch and the example.",
            ),
            numbers={"knee": knee.workers, "cores": usable_cores()},
        )

    def measured(self, workers: int) -> Pace:
        examples = Slow(self.decode_ms / 1000, self.waits)
        more: dict[str, Any] = {"prefetch_factor": 2} if workers else {}
        with quiet():
            loader = DataLoader(examples, self.batch_size, num_workers=workers, **more)
            batches = iter(loader)
        began = time.perf_counter()
        next(batches)
        first = time.perf_counter() - began
        for _ in range(WARM * max(1, workers)):
            next(batches)
        began, waited, count = time.perf_counter(), 0.0, 0
        while time.perf_counter() - began < SECONDS:
            asked = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - asked
            compute(self.train_ms / 1000)
            count += self.batch_size
        taken = time.perf_counter() - began
        return Pace(workers, count / taken, waited / taken, 1000 * first)

    def verdict(self, paces: list[Pace], knee: Pace) -> str:
        alone = paces[0]
        if knee.workers == 0:
            return (
                "No worker pays here: the training waits "
                f"{100 * alone.waiting:.0f} % of its time without any, and more do not help."
            )
        gain = knee.examples_per_second / alone.examples_per_second
        return (
            f"{knee.workers} {'worker is' if knee.workers == 1 else 'workers are'} the fewest "
            f"within 5 % of the best: {gain:.1f} times as fast as without. Waiting falls from "
            f"{100 * alone.waiting:.0f} to {100 * knee.waiting:.0f} % of the time."
        )


class Slow(Dataset[torch.Tensor]):
    """Examples without end that each take a while."""

    def __init__(self, seconds: float, waits: bool) -> None:
        self.seconds, self.waits = seconds, waits

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.waits:
            time.sleep(self.seconds)
        else:
            compute(self.seconds)
        return torch.zeros(1)


def compute(seconds: float) -> None:
    """Keep a core busy for so much of its own time: beside others it takes longer."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@contextmanager
def quiet() -> Iterator[None]:
    """Nobody need be told that there are more workers than cores: it is what is being tried."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield
