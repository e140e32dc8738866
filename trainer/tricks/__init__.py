"""The catalogue of tricks. A new one is a file here and a name in the union below."""

from collections.abc import Sequence
from typing import Annotated, get_args

from pydantic import Field

from trainer.part import name_of
from trainer.tricks.base import Claim, Exactness, Stage, Trick
from trainer.tricks.cudnn_benchmark import CudnnBenchmark
from trainer.tricks.deterministic import Deterministic
from trainer.tricks.freeze import Freeze
from trainer.tricks.gradient_accumulation import GradientAccumulation
from trainer.tricks.layerwise_learning_rate import LayerwiseLearningRate
from trainer.tricks.random_shift import RandomShift
from trainer.tricks.seed import Seed
from trainer.tricks.starting_weights import StartingWeights

AnyTrick = Annotated[
    Seed
    | Deterministic
    | CudnnBenchmark
    | RandomShift
    | StartingWeights
    | Freeze
    | GradientAccumulation
    | LayerwiseLearningRate,
    Field(discriminator="name"),
]
TRICKS: tuple[type[Trick], ...] = get_args(get_args(AnyTrick)[0])


def in_order(tricks: Sequence[Trick]) -> list[Trick]:
    """By stage, then by the catalogue: never the order in which boxes were ticked."""
    return sorted(tricks, key=lambda trick: (trick.stage, TRICKS.index(type(trick))))


def clashes(tricks: Sequence[Trick]) -> list[str]:
    """Why these tricks cannot be on together: a sentence with both names for each pair."""
    chosen = in_order(tricks)
    reasons = []
    for number, first in enumerate(chosen):
        for second in chosen[number + 1 :]:
            one, other = name_of(type(first)), name_of(type(second))
            shared = first.owns & second.owns
            if one == other:
                reasons.append(f"{one} is chosen twice; keep one")
            elif why := first.clashes.get(other) or second.clashes.get(one):
                reasons.append(f"{one} and {other} clash: {why}; keep one")
            elif shared:
                slots = ", ".join(sorted(shared))
                reasons.append(f"{one} and {other} both replace {slots}; keep one")
    return reasons


__all__ = [
    "TRICKS",
    "AnyTrick",
    "Claim",
    "CudnnBenchmark",
    "Deterministic",
    "Exactness",
    "Freeze",
    "GradientAccumulation",
    "LayerwiseLearningRate",
    "RandomShift",
    "Seed",
    "Stage",
    "StartingWeights",
    "Trick",
    "clashes",
    "in_order",
    "name_of",
]
