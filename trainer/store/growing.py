"""GrowingSeries: a series that is being written, as rows of chunks at every level.

A row's `number` is the place of its first point in the series. Level 0 holds every point, in chunks
of 4,096; the newest points, too few for a chunk, lie in smaller parts until they fill one. Coarser
levels are made from whole chunks and hold buckets (see `trainer/store/buckets.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.store.buckets import NO_BUCKETS, Buckets, coarsened
from trainer.store.packing import NO_POINTS, Points, pack
from trainer.store.summary import Summary

CHUNK = 4096
PART = 256
"""A part this long is left alone. Whatever fits a page of the database costs the same to write."""
LEVELS = {1: 64, 2: CHUNK}
"""Points per bucket; every size divides a chunk."""
BUCKETS_PER_ROW = 1024

Place = Mapping[str, int]
"""A row's key: series_id, level and number."""


@dataclass
class Changes:
    """Rows to delete, then rows to insert."""

    gone: list[Place] = field(default_factory=list)
    rows: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass
class LevelRow:
    """The newest row of a coarser level; stored as soon as it has buckets, and may still grow."""

    number: int
    buckets: Buckets = NO_BUCKETS
    summary: Summary = field(default_factory=Summary)


class GrowingSeries:
    """Turns appended points into changes of rows. Knows nothing of the database."""

    def __init__(self, series_id: int) -> None:
        self.id = series_id
        self.summary = Summary()
        self.start = 0
        """Place of the first point that is in no whole chunk yet."""
        self.tail = NO_POINTS
        self.parts: list[int] = []
        """Where in the tail its stored parts begin."""
        self.part = 0
        """Where in the tail the part begins that still grows."""
        self.levels = {level: LevelRow(0) for level in LEVELS}

    @classmethod
    def holding(cls, series_id: int, points: Points) -> tuple["GrowingSeries", Changes]:
        """A series cut back to these points; its whole chunks of level 0 are there already.

        Deletes everything else and makes it anew.
        """
        growing = cls(series_id)
        changes = growing.append(points)
        whole = len(points) // CHUNK * CHUNK
        anew = [row for row in changes.rows if row["level"] or row["number"] >= whole]
        return growing, Changes([], anew)

    def append(self, points: Points) -> Changes:
        """What to write for these points, at least one, that follow those before."""
        changes = Changes()
        self.summary.add(points)
        self.tail = Points.joined([self.tail, points])
        if whole := len(self.tail) // CHUNK * CHUNK:
            self.store_chunks(self.tail[:whole], changes)
            self.start += whole
            self.tail, self.parts, self.part = self.tail[whole:], [], 0
        if len(self.tail):
            self.store_part(changes)
        return changes

    def store_part(self, changes: Changes) -> None:
        """The newest part, in place of its shorter form."""
        if self.part in self.parts:
            changes.gone.append(self.place(0, self.start + self.part))
        else:
            self.parts.append(self.part)
        self.store_points(self.start + self.part, self.tail[self.part :], changes)
        if len(self.tail) - self.part >= PART:
            self.part = len(self.tail)

    def store_chunks(self, points: Points, changes: Changes) -> None:
        """Whole chunks instead of the parts they were, and their buckets at the coarser levels."""
        changes.gone += [self.place(0, self.start + part) for part in self.parts]
        for first in range(0, len(points), CHUNK):
            self.store_points(self.start + first, points[first : first + CHUNK], changes)
        for level in LEVELS:
            self.extend(level, points, changes)

    def extend(self, level: int, points: Points, changes: Changes) -> None:
        size = LEVELS[level]
        while len(points):
            row = self.levels[level]
            if row.buckets:
                changes.gone.append(self.place(level, row.number))
            room = (BUCKETS_PER_ROW - len(row.buckets)) * size
            row.summary.add(points[:room])
            row.buckets = Buckets.joined([row.buckets, coarsened(points[:room], size)])
            self.store(level, row.number, row.summary, row.buckets.packed(), changes)
            if len(row.buckets) == BUCKETS_PER_ROW:
                self.levels[level] = LevelRow(row.number + BUCKETS_PER_ROW * size)
            points = points[room:]

    def store_points(self, number: int, points: Points, changes: Changes) -> None:
        self.store(0, number, Summary.of(points), pack(points), changes)

    def store(
        self, level: int, number: int, summary: Summary, payload: bytes, changes: Changes
    ) -> None:
        changes.rows.append(
            {
                **self.place(level, number),
                "points": summary.points,
                "first_step": summary.first_step,
                "last_step": summary.last_step,
                "lowest": summary.lowest,
                "highest": summary.highest,
                "total": summary.total,
                "payload": payload,
            }
        )

    def place(self, level: int, number: int) -> Place:
        return {"series_id": self.id, "level": level, "number": number}
