"""Row: one way of loading and how it did; where more workers stop paying, in words too."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from trainer.pace import LoadingPace, TrainingPace

NEARLY = 0.95
"""A rate within 5 % of the best is as good: less is noise, and processes cost memory."""
WORTH_IT = 0.03
"""Where a step waits for data a smaller share of its time, there is nothing to gain."""


@dataclass(frozen=True)
class Row:
    """One batch size with one number of workers. Figures are None where nothing was measured."""

    batch_size: int
    workers: int
    is_resident: bool
    """Whether the examples stay on the device, where nothing has to be loaded."""
    loaded_per_second: float | None = None
    """Examples, when nobody trains."""
    first_batch_seconds: float | None = None
    loader_memory_bytes: int | None = None
    trained_per_second: float | None = None
    """Examples."""
    waiting_share: float | None = None
    """Of a step's time, what it waits for its batches."""
    problem: str = ""

    def __str__(self) -> str:
        return f"batches of {self.batch_size} {self.how}"

    @property
    def how(self) -> str:
        if self.is_resident:
            return "that stay on the device"
        return f"with {self.workers or 'no'} worker{'' if self.workers == 1 else 's'}"

    @property
    def rate(self) -> float:
        """What counts: how fast it trains, or loads where that alone was measured."""
        found = (
            self.loaded_per_second if self.trained_per_second is None else self.trained_per_second
        )
        return found or 0.0

    def with_problem(self, problem: str) -> "Row":
        return replace(self, problem=problem)

    def with_loading(self, pace: LoadingPace) -> "Row":
        return replace(
            self,
            loaded_per_second=pace.samples_per_second,
            first_batch_seconds=pace.first_batch_seconds,
            loader_memory_bytes=pace.loader_memory_bytes,
        )

    def with_training(self, pace: TrainingPace) -> "Row":
        return replace(
            self,
            trained_per_second=pace.samples_per_second,
            waiting_share=pace.waiting_share,
        )


def by_batch_size(rows: Iterable[Row]) -> Mapping[int, Sequence[Row]]:
    """The rows that were measured."""
    measured = [row for row in rows if not row.problem]
    return {size: list(found) for size, found in groupby(measured, lambda row: row.batch_size)}


def knees(rows: Iterable[Row]) -> list[Row]:
    """For each batch size the fewest workers within 5 % of the best; staying examples aside."""
    loaded = by_batch_size(row for row in rows if not row.is_resident)
    return [fewest(found) for found in loaded.values()]


def fewest(rows: Sequence[Row]) -> Row:
    """The row with the fewest workers among those that are as good as the best."""
    best = max(row.rate for row in rows)
    good = [row for row in rows if row.rate >= NEARLY * best]
    return min(good, key=lambda row: (row.workers, not row.is_resident))


def verdict(rows: Iterable[Row], workers: int) -> str:
    """What to do about it, in a sentence for each batch size, for a run with so many workers."""
    sentences = [sentence(found, workers) for found in by_batch_size(rows).values()]
    return " ".join(sentences)


def sentence(rows: Sequence[Row], workers: int) -> str:
    usual, best = usual_row(rows, workers), fewest(rows)
    gain = best.rate / usual.rate if usual.rate else 1.0
    size = f"Batches of {usual.batch_size}:"
    if usual.waiting_share is None:
        faster = f", {gain:.1f} times as many as those {usual.how}" if best is not usual else ""
        return (
            f"{size} those {best.how} come at {best.rate:,.0f} examples a second{faster}; whether "
            "training gains was not measured."
        )
    waits = f"waiting for those {usual.how} is {100 * usual.waiting_share:.1f} % of a step"
    if usual.waiting_share < WORTH_IT:
        return f"{size} nothing to gain; {waits}."
    if best is usual or gain * NEARLY < 1:
        return f"{size} {waits}, and nothing that was tried is more than 5 % faster."
    return f"{size} {waits}; {best.how} it trains {gain:.2f} times as fast."


def usual_row(rows: Sequence[Row], workers: int) -> Row:
    """What the run does as it is; the nearest number of workers where that was not tried.

    Without workers, examples that fit on the device stay there.
    """
    return min(rows, key=lambda row: (abs(row.workers - workers), not row.is_resident))
