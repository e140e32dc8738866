"""Difference: how far two outputs of one layer are apart, value by value and as a whole."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.part import Refused

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """One output less another. Both were kept in 255 steps, so less than that means nothing."""

    values: Values
    most: float
    """The largest of all differences, whatever its sign."""
    relative: float | None
    """Length of the difference over that of the other output; None where that is all zeros."""
    cosine: float | None
    """Of the angle between both; None where either is all zeros."""

    def levels(self) -> npt.NDArray[np.uint8]:
        """The differences as bytes: 128 is none, 1 and 255 are the largest."""
        scale = 127 / self.most if self.most else 0.0
        return (128 + np.round(self.values * scale)).astype(np.uint8)


def difference(one: Values, other: Values) -> Difference:
    """One output less another of the same shape. Raises Refused."""
    if one.shape != other.shape:
        shapes = " and ".join("×".join(map(str, shape)) for shape in (one.shape, other.shape))
        raise Refused(f"the outputs are of different shapes, {shapes}: nothing can be subtracted")
    apart = one - other
    # in double precision: squares of a million values are added up
    here, there, between = (wide.astype(np.float64).ravel() for wide in (one, other, apart))
    length, other_length = float(np.linalg.norm(here)), float(np.linalg.norm(there))
    both = length * other_length
    return Difference(
        values=apart,
        most=float(np.abs(apart).max(initial=0)),
        relative=float(np.linalg.norm(between)) / other_length if other_length else None,
        cosine=float(here @ there) / both if both else None,
    )
