"""Packing: points of a series as one blob, some eight bytes each."""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HEADER = struct.Struct("<BccxIqqd")
"""version, kind of values, kind of steps, points, first step, stride, first time"""
VERSION = 2
SINGLE, DOUBLE = b"f", b"d"
EVEN, NEAR, LISTED = b"e", b"n", b"l"
"""Even steps are a stride; near ones four bytes each, counted from the first; others eight."""


@dataclass(frozen=True)
class Points:
    """Columns of equal length: optimizer steps, values, and seconds of wall time (Unix)."""

    steps: Steps
    values: Floats
    times: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, chosen: slice | npt.NDArray[np.intp]) -> "Points":
        return Points(self.steps[chosen], self.values[chosen], self.times[chosen])

    def until(self, step: int) -> "Points":
        """The points up to this step."""
        return self[: int(np.searchsorted(self.steps, step, side="right"))]

    @staticmethod
    def joined(parts: "list[Points]") -> "Points":
        if not parts:
            return NO_POINTS
        return Points(
            np.concatenate([part.steps for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.times for part in parts]),
        )


NO_POINTS = Points(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.float64))


def pack(points: Points) -> bytes:
    """Points, at least one, as bytes. Loses nothing of steps and values.

    Times are exact to a ten-millionth of the span from first to last. Values go as float32 where
    that is exact, as it is for whatever a float32 network measured. Evenly spaced steps cost
    nothing.
    """
    with np.errstate(over="ignore"):
        single = points.values.astype(np.float32)
    exact = bool(np.array_equal(single.astype(np.float64), points.values, equal_nan=True))
    values = single if exact else points.values
    first = int(points.steps[0])
    stride = int(points.steps[1]) - first if len(points) > 1 else 1
    kind, listed = LISTED, points.steps
    if np.array_equal(points.steps, first + stride * np.arange(len(points))):
        kind, listed = EVEN, listed[:0]
    elif int(points.steps[-1]) - first < 2**32:
        kind, listed = NEAR, (listed - first).astype(np.uint32)
    started = float(points.times[0])
    return b"".join(
        (
            HEADER.pack(
                VERSION,
                SINGLE if exact else DOUBLE,
                kind,
                len(points),
                first,
                stride,
                started,
            ),
            values.tobytes(),
            listed.tobytes(),
            (points.times - started).astype(np.float32).tobytes(),
        )
    )


def unpack(payload: bytes) -> Points:
    """The points of a blob that `pack` made."""
    version, value_kind, step_kind, count, first, stride, started = HEADER.unpack_from(payload)
    assert version <= VERSION, f"a chunk of version {version}, from a newer Tricklab"
    at = HEADER.size
    kind = np.float32 if value_kind == SINGLE else np.float64
    values = np.frombuffer(payload, kind, count, at).astype(np.float64)
    at += count * np.dtype(kind).itemsize
    if step_kind == EVEN:
        steps = first + stride * np.arange(count, dtype=np.int64)
    elif step_kind == NEAR:
        steps = first + np.frombuffer(payload, np.uint32, count, at).astype(np.int64)
        at += count * 4
    else:
        steps = np.frombuffer(payload, np.int64, count, at)
        at += count * 8
    times = started + np.frombuffer(payload, np.float32, count, at).astype(np.float64)
    return Points(steps, values, times)
