"""Curves: smoothing over a whole series, then down-sampling that keeps the extremes."""

import math

import numpy as np
import numpy.typing as npt

from trainer.store.packing import Floats, Points, Steps

FEWEST = 3
"""The down-sampling has no meaning for fewer points."""


def smooth(values: Floats, weight: float) -> Floats:
    """Debiased exponential moving average; `weight` in [0, 1) is what is kept of the past.

    A constant series stays as it is. Non-finite values are passed through and not remembered.
    Source of the debiasing: Kingma and Ba, "Adam", 2015, section 3.
    """
    finite = np.isfinite(values)
    numbers = values if finite.all() else values[finite]
    if weight == 0 or not len(numbers) or (numbers == numbers[0]).all():
        return values
    if numbers is values:
        return averaged(values, weight)
    smoothed = values.copy()
    smoothed[finite] = averaged(numbers, weight)
    return smoothed


def averaged(values: Floats, weight: float) -> Floats:
    """The debiased average of finite values."""
    averages = (by_terms if weight < 0.1 else by_blocks)(values, weight)
    # further on, what there was not before the first value has no weight left
    young = averages[: math.ceil(-60 / math.log2(weight))]
    young /= 1 - weight ** np.arange(1, len(young) + 1)
    return averages


def by_terms(values: Floats, weight: float) -> Floats:
    """The biased average where little is kept of the past: of the last few values, term by term."""
    averages = (1 - weight) * values
    for back in range(1, min(len(values), math.ceil(18 / -math.log10(weight)))):
        averages[back:] += (1 - weight) * weight**back * values[:-back]
    return averages


def by_blocks(values: Floats, weight: float) -> Floats:
    """The biased average, in blocks so that no power of 1/weight overflows."""
    averages = np.empty_like(values)
    # within a block the recursion is a cumulative sum of values over powers of the weight
    block = min(len(values), int(200 / -math.log10(weight)))
    powers = weight ** np.arange(1, block + 1)
    shares, past = (1 - weight) / powers, 0.0
    for first in range(0, len(values), block):
        part = values[first : first + block]
        sums = powers[: len(part)] * (past + np.cumsum(part * shares[: len(part)]))
        averages[first : first + block] = sums
        past = float(sums[-1])
    return averages


def memory(weight: float) -> int:
    """How many points back the average sees: earlier ones make no difference of a billionth."""
    return math.ceil(math.log(1e-9) / math.log(weight)) if weight > 0 else 0


def thinned(points: Points, most: int) -> npt.NDArray[np.intp]:
    """Indices of at most about `most` points that draw the same curve.

    Lowest and highest stay, so do the first and the last point and the edges of every gap of
    non-finite values; of more gaps than a chart can show, some.
    """
    most = max(most, FEWEST)
    if len(points) <= most:
        return np.arange(len(points))
    steps, values = points.steps, points.values
    kept = np.zeros(len(points), bool)
    kept[0] = kept[-1] = True
    finite = np.isfinite(values)
    places = None
    if not finite.all():
        places = np.flatnonzero(finite)
        steps, values = steps[places], values[places]
        edges = gaps(finite)
        kept[edges[:: -(-len(edges) // most)]] = True
    if len(values):
        chosen = drawn(steps, values, most)
        kept[chosen if places is None else places[chosen]] = True
    return np.flatnonzero(kept)


def drawn(steps: Steps, values: Floats, most: int) -> npt.NDArray[np.intp]:
    """Indices of the finite values that draw the curve; all of them where there are few enough."""
    if len(values) <= most:
        return np.arange(len(values))
    # imported here: the trainer must import where only torch and the store's needs are at hand
    from tsdownsample import MinMaxLTTBDownsampler

    inside = MinMaxLTTBDownsampler().downsample(steps.astype(np.float64), values, n_out=most)
    extremes = [values.argmin(), values.argmax()]
    return np.concatenate([inside, extremes]).astype(np.intp)


def gaps(finite: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """First and last index of each stretch that is not finite."""
    missing = np.concatenate([[False], ~finite, [False]]).astype(np.int8)
    edges = np.diff(missing)
    return np.concatenate([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1])
