"""Buckets: a series at a coarser level: of every so many points the mean, the extremes, the gaps.

A chart of ten million points is drawn from some thousand of these.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.store.packing import NO_POINTS, Floats, Points, pack, unpack

Counts = npt.NDArray[np.int64]

HEADER = struct.Struct("<BxxxI")
"""version, number of buckets"""
VERSION = 1


@dataclass(frozen=True)
class Buckets:
    """Consecutive stretches of a series, columns of equal length, and the points that show them."""

    means: Floats
    """Of the finite values of each; NaN where there is none."""
    kept: Counts
    """How many marks each bucket has, one to six."""
    marks: Points
    """Of each bucket, in their order: its lowest, its highest, both ends of what is not finite."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, chosen: slice) -> "Buckets":
        """Some buckets; `chosen` has no stride."""
        first, end, _ = chosen.indices(len(self))
        places = np.concatenate([[0], np.cumsum(self.kept)])
        marks = self.marks[int(places[first]) : int(places[max(first, end)])]
        return Buckets(self.means[chosen], self.kept[chosen], marks)

    @staticmethod
    def joined(parts: "Sequence[Buckets]") -> "Buckets":
        if not parts:
            return NO_BUCKETS
        return Buckets(
            np.concatenate([part.means for part in parts]),
            np.concatenate([part.kept for part in parts]),
            Points.joined([part.marks for part in parts]),
        )

    def packed(self) -> bytes:
        """At least one bucket as bytes; values to the last bit, as `packing.pack` keeps them."""
        return b"".join(
            (
                HEADER.pack(VERSION, len(self)),
                self.means.tobytes(),
                self.kept.astype(np.uint8).tobytes(),
                pack(self.marks),
            )
        )

    @staticmethod
    def unpacked(payload: bytes) -> "Buckets":
        """What `packed` made."""
        version, count = HEADER.unpack_from(payload)
        assert version == VERSION, f"buckets of version {version}, from a newer Tricklab"
        means = np.frombuffer(payload, np.float64, count, HEADER.size)
        at = HEADER.size + 8 * count
        kept = np.frombuffer(payload, np.uint8, count, at).astype(np.int64)
        return Buckets(means, kept, unpack(payload[at + count :]))


NO_BUCKETS = Buckets(np.empty(0), np.empty(0, np.int64), NO_POINTS)


def coarsened(points: Points, size: int) -> Buckets:
    """Buckets of `size` points, at least one; the last may get fewer. Both ends are marks too."""
    whole = len(points) // size * size
    parts = [
        of_rows(points[:whole], size) if whole else NO_BUCKETS,
        of_rows(points[whole:], len(points) - whole) if whole < len(points) else NO_BUCKETS,
    ]
    return Buckets.joined([part for part in parts if part])


def of_rows(points: Points, size: int) -> Buckets:
    """Buckets of exactly `size` points, which must divide the number of points."""
    values = points.values.reshape(-1, size)
    finite = np.isfinite(values)
    marked = np.zeros(values.shape, bool)
    marked[0, 0] = marked[-1, -1] = True
    row = np.arange(len(values))
    lows, highs = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    low, high = lows.argmin(axis=1), highs.argmax(axis=1)
    for place in (low, high):
        marked[row, place] |= finite[row, place]
    if not finite.all():
        # both ends of what is not finite, so that a chart shows the gap
        for place in ((~finite).argmax(axis=1), size - 1 - (~finite[:, ::-1]).argmax(axis=1)):
            marked[row, place] |= ~finite[row, place]
    with np.errstate(all="ignore"):
        means = np.where(finite, values, 0.0).sum(axis=1) / finite.sum(axis=1)
    # rounding, or a sum beyond the largest number, must not carry it out of the bucket's range
    means = np.clip(means, lows[row, low], highs[row, high])
    means = np.where(finite.any(axis=1), means, np.nan)
    return Buckets(means, marked.sum(axis=1), points[np.flatnonzero(marked)])
