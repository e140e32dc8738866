"""Cursor: how far the reader of some curves has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Row

CURSOR = r"^([0-9]{1,18}(\.[0-9]{1,18}){2}(_[0-9]{1,18}(\.[0-9]{1,18}){2})*)?$"


class Seen(NamedTuple):
    attempt: int
    """Of the run: another one may have gone back to a checkpoint and made other points."""
    points: int


@dataclass(frozen=True)
class Cursor:
    """What was seen of each series. As text: series.attempt.points, with _ between."""

    seen: Mapping[int, Seen]

    @classmethod
    def parsed(cls, text: str) -> "Cursor":
        """The cursor of a text that matches `CURSOR`."""
        parts = [[int(number) for number in part.split(".")] for part in text.split("_") if part]
        return cls({series_id: Seen(*rest) for series_id, *rest in parts})

    @classmethod
    def at(cls, series: Sequence[Row[Any]], attempts: Mapping[int, int]) -> "Cursor":
        """Everything that is there now."""
        return cls({row.id: Seen(attempts[row.run_id], row.points) for row in series})

    @property
    def text(self) -> str:
        return "_".join(f"{number}.{s.attempt}.{s.points}" for number, s in self.seen.items())

    def missing(self, row: Row[Any], attempts: Mapping[int, int]) -> int:
        """How many points came since; -1 where what was seen may no longer be what is there."""
        seen = self.seen.get(row.id)
        if seen is None or seen.attempt != attempts[row.run_id]:
            return -1
        return int(row.points) - seen.points

    def place(self, series_id: int) -> int:
        return self.seen[series_id].points
