"""CurveReader: series as charts want them, at a cost that depends on the chart and not the run."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, func, select

from trainer.store.buckets import Buckets, coarsened
from trainer.store.curves import memory, smooth, thinned
from trainer.store.growing import LEVELS
from trainer.store.packing import Floats, Points, unpack
from trainer.store.tables import series_chunks

chunk = series_chunks.c


@dataclass(frozen=True)
class Curve:
    """A series as a chart wants it: thinned points, and the smoothed values beside them."""

    points: Points
    smoothed: Floats

    def __getitem__(self, chosen: Any) -> "Curve":
        return Curve(self.points[chosen], self.smoothed[chosen])


class Steps(NamedTuple):
    """Only what lies between these steps, and one point more on either side of it."""

    first: int
    last: int


class Stretch(NamedTuple):
    """Part of a series: places of points, from `begin` to before `end`."""

    begin: int
    end: int


def read_curves(
    connection: Connection,
    series: Sequence[Row[Any]],
    most: int,
    smoothing: float = 0.0,
    steps: Steps | None = None,
) -> list[Curve]:
    """Of each of these rows of `series` about `most` points at most, lowest and highest kept.

    Short series are read whole, and smoothed point by point. Where 64 points or more come to each
    one asked for, buckets of 64 or 4,096 are read in their stead: extremes and gaps are those of
    the points, and smoothed are the buckets' means, each counted as so many points.
    """
    stretches = {row.id: Stretch(0, row.points) for row in series}
    if steps is not None:
        stretches = stretches_of(connection, list(stretches), steps)
    by_level: dict[int, dict[int, Stretch]] = defaultdict(dict)
    for series_id, stretch in stretches.items():
        by_level[level_for(stretch, most)][series_id] = stretch
    found: dict[int, Curve] = {}
    for level, those in by_level.items():
        read = read_buckets if level else read_whole
        # thinned one by one, while its points are still in the processor's cache
        for series_id, curve in read(connection, level, those, smoothing):
            found[series_id] = thin(between(curve, steps), most)
    return [found[row.id] for row in series]


def read_newer(connection: Connection, series_id: int, place: int, smoothing: float) -> Curve:
    """Every point from this place in the series on, smoothed as part of the whole."""
    begin = max(0, place - memory(smoothing))
    rows = rows_of(connection, 0, {series_id: Stretch(begin, 2**62)})[series_id]
    points = Points.joined([unpack(row.payload) for row in rows])
    newer = max(0, place - (rows[0].number if rows else place))
    return Curve(points, smooth(points.values, smoothing))[newer:]


def level_for(stretch: Stretch, most: int) -> int:
    """The coarsest level that still has about a bucket for each point asked for."""
    length = stretch.end - stretch.begin
    return max((level for level, size in LEVELS.items() if length >= size * most), default=0)


def stretches_of(connection: Connection, ids: Sequence[int], steps: Steps) -> dict[int, Stretch]:
    """Where in each series the chunks lie that reach into these steps; a few points too many."""
    query = (
        select(
            chunk.series_id,
            func.min(chunk.number).label("begin"),
            func.max(chunk.number + chunk.points).label("end"),
        )
        .where(chunk.series_id.in_(ids), chunk.level == 0)
        .where(chunk.last_step >= steps.first, chunk.first_step <= steps.last)
        .group_by(chunk.series_id)
    )
    # one more on either side, for the lines that leave the picture
    there = {
        row.series_id: Stretch(max(0, row.begin - 1), row.end + 1)
        for row in connection.execute(query)
    }
    return {series_id: there.get(series_id, Stretch(0, 0)) for series_id in ids}


def read_whole(
    connection: Connection, level: int, stretches: Mapping[int, Stretch], smoothing: float
) -> Iterator[tuple[int, Curve]]:
    """Every point of these stretches, and what smoothing must know of those before."""
    rows = rows_of(connection, level, with_memory(stretches, memory(smoothing)))
    for series_id, own in rows.items():
        points = Points.joined([unpack(row.payload) for row in own])
        yield series_id, Curve(points, smooth(points.values, smoothing))


def read_buckets(
    connection: Connection, level: int, stretches: Mapping[int, Stretch], smoothing: float
) -> Iterator[tuple[int, Curve]]:
    """The marks of the buckets in these stretches, and the smoothed means beside them."""
    wider = with_memory(stretches, memory(smoothing))
    for series_id, rows in rows_of(connection, level, wider).items():
        begin, end = wider[series_id]
        stored = max((row.number + row.points for row in rows), default=begin)
        buckets = [Buckets.unpacked(row.payload) for row in rows]
        if stored < end:
            # the newest points are in no bucket yet
            tail = rows_of(connection, 0, {series_id: Stretch(stored, end)})[series_id]
            points = Points.joined([unpack(row.payload) for row in tail])
            buckets += [coarsened(points, LEVELS[level])] if len(points) else []
        yield series_id, of_buckets(Buckets.joined(buckets), LEVELS[level], smoothing)


def of_buckets(buckets: Buckets, size: int, smoothing: float) -> Curve:
    marks = buckets.marks
    if not smoothing:
        return Curve(marks, marks.values)
    # so many points alike keep of the past what one keeps, so many times over
    means = np.repeat(smooth(buckets.means, smoothing**size), buckets.kept)
    return Curve(marks, np.where(np.isfinite(marks.values), means, marks.values))


def with_memory(stretches: Mapping[int, Stretch], points: int) -> dict[int, Stretch]:
    return {
        series_id: Stretch(max(0, stretch.begin - points), stretch.end)
        for series_id, stretch in stretches.items()
    }


def rows_of(
    connection: Connection, level: int, stretches: Mapping[int, Stretch]
) -> dict[int, list[Any]]:
    """The rows of one level that reach into these stretches, in order; of all series at once."""
    query = (
        select(chunk.series_id, chunk.number, chunk.points, chunk.payload)
        .where(chunk.series_id.in_(stretches), chunk.level == level)
        .where(chunk.number < max(stretch.end for stretch in stretches.values()))
        .where(chunk.number + chunk.points > min(stretch.begin for stretch in stretches.values()))
        .order_by(chunk.series_id, chunk.number)
    )
    rows: dict[int, list[Any]] = {series_id: [] for series_id in stretches}
    # fetched at once: an open cursor would keep SQLite's log from being reset
    for row in connection.execute(query).all():
        begin, end = stretches[row.series_id]
        if row.number < end and row.number + row.points > begin:
            rows[row.series_id].append(row)
    return rows


def between(curve: Curve, steps: Steps | None) -> Curve:
    if steps is None:
        return curve
    first, last = np.searchsorted(curve.points.steps, [steps.first, steps.last + 1])
    return curve[max(0, int(first) - 1) : int(last) + 1]


def thin(curve: Curve, most: int) -> Curve:
    return curve[thinned(curve.points, most)]
