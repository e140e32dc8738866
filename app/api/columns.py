"""Columns: arrays of numbers in an answer, as text or packed."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from app.api.answers import column

Encoded = Any
Numbers = npt.NDArray[Any]


def plain(values: Numbers, *, rounded: bool = False) -> Encoded:
    """A list of numbers; those that JSON does not know are spelled."""
    return column(values)


def packed(values: Numbers, *, rounded: bool = False) -> Encoded:
    """Little-endian numbers in base64, in the form that Plotly takes for an array.

    Four bytes each where that is exact or they may be rounded, eight otherwise. Whole numbers
    beyond 2**53 lose their last digits.
    """
    kind = kind_of(values, rounded)
    with np.errstate(over="ignore"):
        content = values.astype(kind).tobytes()
    return {"dtype": kind[1:], "bdata": base64.b64encode(content).decode()}


def kind_of(values: Numbers, rounded: bool) -> str:
    if values.dtype.kind == "i":
        return "<i4" if not len(values) or values.max() < 2**31 else "<f8"
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return "<f4" if rounded or np.array_equal(single, values, equal_nan=True) else "<f8"
