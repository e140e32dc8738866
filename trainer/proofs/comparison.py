"""Comparison: how far one step is from another, as a whole and tensor by tensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainer.proofs.step import Manner, StepTaken


@dataclass(frozen=True)
class Comparison:
    """How far a step with a trick is from one without. Errors are relative."""

    precision: str
    """float32 or float64."""
    sizes: tuple[int, ...]
    """Examples of the batches with the trick."""
    sizes_without: tuple[int, ...]
    """Of those without it: the same examples."""
    in_eval: bool
    """Whether batch norm and dropout behaved as when evaluating."""
    loss: float
    gradient: float
    cosine: float
    update: float
    """At the same learning rate, whatever the trick does to it."""
    learning_rate_factor: float
    """How much higher the rate is with the trick."""
    statistics: float
    layers: Mapping[str, tuple[float, float]]
    """Of each parameter the errors of its gradient and of its update."""
    without_gradient: tuple[str, ...]
    """Parameters that get a gradient in one of the two steps only."""

    @property
    def worst_layer(self) -> str:
        """The parameter whose gradient differs most; empty where none does."""
        name = max(self.layers, key=lambda name: largest(self.layers[name][0]), default="")
        return name if name and self.layers[name][0] != 0 else ""

    @property
    def same_gradients(self) -> int:
        """How many gradients agree to the bit."""
        return sum(gradient == 0 for gradient, _ in self.layers.values())

    def told(self) -> dict[str, Any]:
        """The same as JSON."""
        return vars(self) | {
            "sizes": list(self.sizes),
            "sizes_without": list(self.sizes_without),
            "layers": {name: list(errors) for name, errors in self.layers.items()},
            "without_gradient": list(self.without_gradient),
            "worst_layer": self.worst_layer,
            "same_gradients": self.same_gradients,
        }


def comparison(
    one: StepTaken, other: StepTaken, manner: Manner, sizes_without: tuple[int, ...]
) -> Comparison:
    """How far `one`, with the trick and taken in this manner, is from `other`."""
    shared = [name for name in other.gradients if name in one.gradients]
    first, second = joined(one.gradients, shared), joined(other.gradients, shared)
    factor = one.multiplier / other.multiplier if other.multiplier else math.nan
    moves = {name: update / factor for name, update in one.updates.items()}
    buffers = [name for name in other.statistics if name in one.statistics]
    return Comparison(
        precision=str(manner.dtype).removeprefix("torch."),
        sizes=manner.sizes,
        sizes_without=sizes_without,
        in_eval=manner.in_eval,
        loss=relative(abs(one.loss - other.loss), abs(other.loss)),
        gradient=error(first, second),
        cosine=float(nn.functional.cosine_similarity(first, second, dim=0)),
        update=error(joined(moves, list(moves)), joined(other.updates, list(moves))),
        learning_rate_factor=factor,
        statistics=error(joined(one.statistics, buffers), joined(other.statistics, buffers)),
        layers={
            name: (
                error(one.gradients[name], other.gradients[name]),
                error(moves[name], other.updates[name]),
            )
            for name in shared
        },
        without_gradient=tuple(sorted(one.gradients.keys() ^ other.gradients.keys())),
    )


def joined(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> torch.Tensor:
    parts = [tensors[name].double().cpu().flatten() for name in names]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    """|one - other| / |other|, in double precision."""
    # on the host first: MPS has no double
    one, other = one.cpu().double(), other.cpu().double()
    return relative(float((one - other).norm()), float(other.norm()))


def relative(difference: float, size: float) -> float:
    if difference == 0:
        return 0.0
    return difference / size if size else math.inf


def largest(value: float) -> float:
    """For sorting by how bad an error is: not a number is worse than any."""
    return math.inf if math.isnan(value) else value
