"""The losses a person can choose. A new one is a class here and a name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.losses.base import Loss
from trainer.losses.classification import CrossEntropy, MeanSquaredError

AnyLoss = Annotated[CrossEntropy | MeanSquaredError, Field(discriminator="name")]
LOSSES: tuple[type[Loss], ...] = get_args(get_args(AnyLoss)[0])

__all__ = ["LOSSES", "AnyLoss", "CrossEntropy", "Loss", "MeanSquaredError"]
