"""The losses a person can choose. A new one is a class here and a name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.losses.base import Criterion, Loss
from trainer.losses.binary import BinaryCrossEntropy, BinaryCrossEntropyWithLogits
from trainer.losses.classification import CrossEntropy, NegativeLogLikelihood
from trainer.losses.distance import AbsoluteError, Huber, MeanSquaredError, SmoothL1
from trainer.losses.divergence import KullbackLeibler

AnyLoss = Annotated[
    CrossEntropy
    | NegativeLogLikelihood
    | BinaryCrossEntropyWithLogits
    | BinaryCrossEntropy
    | MeanSquaredError
    | AbsoluteError
    | SmoothL1
    | Huber
    | KullbackLeibler,
    Field(discriminator="name"),
]
LOSSES: tuple[type[Loss], ...] = get_args(get_args(AnyLoss)[0])

__all__ = [
    "LOSSES",
    "AbsoluteError",
    "AnyLoss",
    "BinaryCrossEntropy",
    "BinaryCrossEntropyWithLogits",
    "Criterion",
    "CrossEntropy",
    "Huber",
    "KullbackLeibler",
    "Loss",
    "MeanSquaredError",
    "NegativeLogLikelihood",
    "SmoothL1",
]
