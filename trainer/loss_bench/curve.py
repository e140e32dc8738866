"""Curve and Surface: the loss of one element while its input varies and the others stay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer.loss_bench.base import Arguments
from trainer.loss_bench.bench import Found

POINTS = 121
SIDE = 41


@dataclass(frozen=True)
class Curve:
    """Loss and slope over values of one input, before any reduction."""

    x: Sequence[float]
    loss: Sequence[float]
    slope: Sequence[float]
    at: float
    """Where the input is now."""
    loss_there: float
    slope_there: float

    @property
    def low(self) -> float:
        return self.x[0]

    @property
    def high(self) -> float:
        return self.x[-1]


@dataclass(frozen=True)
class Surface:
    """The loss over two scores of one place. values[row of y][column of x]."""

    x: Sequence[float]
    y: Sequence[float]
    values: Sequence[Sequence[float]]
    classes: tuple[int, int]
    at: tuple[float, float]


def curve(found: Found) -> Curve:
    now = found.input.flatten()[found.at]
    low, high = sensible_range(found, float(now))
    points = torch.linspace(low, high, POINTS)
    losses, slopes = varied(found, torch.cat([points, now.reshape(1)]))
    return Curve(
        points.tolist(),
        losses[:-1].tolist(),
        slopes[:-1].tolist(),
        float(now),
        float(losses[-1]),
        float(slopes[-1]),
    )


def surface(found: Found) -> Surface | None:
    """Over the chosen score and the strongest other, or the target's; None where that is flat."""
    if found.loss.torch_name != "CrossEntropyLoss" or found.input.shape[1] < 2:
        return None
    row, target, arguments = one_place(found)
    _, label = found.spot
    other = rival(found, row, label)
    ranges = [sensible_range(found, float(row[one])) for one in (label, other)]
    x, y = (torch.linspace(*one, SIDE) for one in ranges)
    scores = row.repeat(SIDE * SIDE, 1)
    scores[:, label] = x.repeat(SIDE)
    scores[:, other] = y.repeat_interleave(SIDE)
    targets = target.expand(len(scores), *target.shape)
    values: torch.Tensor = found.loss.module(arguments)(scores, targets)
    return Surface(
        x.tolist(),
        y.tolist(),
        values.reshape(SIDE, SIDE).tolist(),
        (label, other),
        (float(row[label]), float(row[other])),
    )


def rival(found: Found, row: torch.Tensor, label: int) -> int:
    """The class to hold the chosen one against: the target, or else the strongest other."""
    place, _ = found.spot
    if not found.has_probabilities:
        target = int(found.target.flatten()[place])
        if target != label and 0 <= target < len(row):
            return target
    others = [one for one in range(len(row)) if one != label]
    return max(others, key=lambda one: float(row[one]))


def varied(found: Found, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and slope where the chosen input is each of these points (P,)."""
    points = points.clone().requires_grad_()
    row, target, arguments = one_place(found)
    if found.is_over_classes:
        _, label = found.spot
        is_chosen = torch.arange(len(row)) == label
        inputs = torch.where(is_chosen, points[:, None], row)
    else:
        inputs = points
    targets = target.expand(len(points), *target.shape)
    losses: torch.Tensor = found.loss.module(arguments)(inputs, targets)
    (slopes,) = torch.autograd.grad(losses.sum(), points)
    return losses.detach(), slopes


def one_place(found: Found) -> tuple[torch.Tensor, torch.Tensor, Arguments]:
    """Input, target and arguments of the chosen place alone."""
    place, _ = found.spot
    if found.is_over_classes:
        rows = found.by_place(found.input)
        targets = (
            found.by_place(found.target) if found.has_probabilities else found.target.flatten()
        )
        return rows[place], targets[place], found.arguments
    arguments = {
        name: value.broadcast_to(found.input.shape).flatten()[place]
        if isinstance(value, torch.Tensor)
        else value
        for name, value in found.arguments.items()
    }
    return found.input.flatten()[place], found.target.flatten()[place], arguments


def sensible_range(found: Found, now: float) -> tuple[float, float]:
    """From where to where an input is varied: where the curve bends, and where it is now.

    It grows in steps, so that it stays while the input is dragged inside it.
    """
    kind = found.loss.inputs_are
    there = now if math.isfinite(now) else 0.0
    if kind == "probabilities":
        # at 0 and 1 the loss is 100 and its slope 1e12, beside which nothing else could be seen
        return 0.01, 0.99
    if kind == "logarithms":
        return -grown(max(-there, 5.0)), grown(there) if there > 0 else 0.0
    if kind == "logits":
        reach = grown(max(abs(there), 6.0))
        return -reach, reach
    middle = float(found.target.flatten()[found.spot[0]])
    bend = max(getattr(found.loss, "beta", 0.0), getattr(found.loss, "delta", 0.0))
    reach = grown(max(abs(there - middle), 2 * bend, 3.0))
    return middle - reach, middle + reach


def grown(reach: float) -> float:
    """The next of 3, 5, 6, 10, 20, 50 and so on."""
    size = 1.0
    while size * 10 < reach:
        size *= 10
    return next(size * step for step in (1, 2, 3, 5, 6, 10) if size * step >= reach)
