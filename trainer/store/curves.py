"""Curves: smoothing over a whole series, then down-sampling that keeps the extremes."""

import numpy as np
import numpy.typing as npt

from trainer.store.packing import Floats, Points

FEWEST = 3
"""The down-sampling has no meaning for fewer points."""


def smooth(values: Floats, weight: float) -> Floats:
    """Debiased exponential moving average; `weight` in [0, 1) is what is kept of the past.

    A constant series stays as it is. Non-finite values are passed through and not remembered.
    Source of the debiasing: Kingma and Ba, "Adam", 2015, section 3.
    """
    finite = np.isfinite(values)
    numbers = values[finite]
    if weight == 0 or not len(numbers) or (numbers == numbers[0]).all():
        return values
    smoothed = values.copy()
    smoothed[finite] = averaged(numbers, weight)
    return smoothed


def averaged(values: Floats, weight: float) -> Floats:
    """The debiased average of finite values, in blocks so that no power of 1/weight overflows."""
    result = np.empty_like(values)
    # within a block the recursion is a cumulative sum of values over powers of the weight
    block = max(1, min(len(values), int(200 / -np.log10(weight)))) if weight > 1e-200 else 1
    powers = weight ** np.arange(1, block + 1)
    past, kept = 0.0, 1.0
    for first in range(0, len(values), block):
        part = values[first : first + block]
        power = powers[: len(part)]
        sums = power * (past + (1 - weight) * np.cumsum(part / power))
        result[first : first + block] = sums / (1 - kept * power)
        past, kept = float(sums[-1]), kept * float(power[-1])
    return result


def thinned(points: Points, most: int) -> npt.NDArray[np.intp]:
    """Indices of at most about `most` points that draw the same curve.

    Lowest and highest stay, so do the first and the last point and the edges of every gap of
    non-finite values; of more gaps than a chart can show, some.
    """
    most = max(most, FEWEST)
    if len(points) <= most:
        return np.arange(len(points))
    # imported here: the trainer must import where only torch and the store's needs are at hand
    from tsdownsample import MinMaxLTTBDownsampler

    finite = np.flatnonzero(np.isfinite(points.values))
    chosen = finite
    if len(finite) > most:
        inside = MinMaxLTTBDownsampler().downsample(
            points.steps[finite].astype(np.float64), points.values[finite], n_out=most
        )
        extremes = [np.argmin(points.values[finite]), np.argmax(points.values[finite])]
        chosen = finite[np.union1d(inside, extremes).astype(np.intp)]
    edges = gaps(points.values)
    if len(edges) > most:
        edges = edges[:: -(-len(edges) // most)]
    return np.union1d(np.union1d(chosen, edges), [0, len(points) - 1]).astype(np.intp)


def gaps(values: Floats) -> npt.NDArray[np.intp]:
    """First and last index of each stretch of non-finite values."""
    missing = np.concatenate([[False], ~np.isfinite(values), [False]]).astype(np.int8)
    edges = np.diff(missing)
    return np.concatenate([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1])
