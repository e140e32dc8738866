"""The optimizers a person can choose."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from pydantic import Field, model_validator

from trainer.part import Part

ParameterGroups = Iterable[dict[str, Any]]

LearningRate = Annotated[float, Field(gt=0, le=1000)]


class Optimizer(Part):
    """How gradients become steps. `build` gives a fresh torch optimizer."""

    learning_rate: LearningRate = Field(0.1, description="Size of a step at the schedule's peak.")
    weight_decay: float = Field(
        0.0, ge=0, le=10, description="Pull of every weight towards zero at each step."
    )

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        """An optimizer over parameter groups as torch takes them."""
        raise NotImplementedError


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum."""

    title: ClassVar[str] = "SGD"
    name: Literal["sgd"] = "sgd"
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Share of the last step's direction that is kept."
    )
    nesterov: bool = Field(True, description="Look ahead along the momentum; needs momentum.")

    @model_validator(mode="after")
    def nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov looks ahead along the momentum, which is 0; switch nesterov off or "
                "raise momentum"
            )
        return self

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            groups,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )


class AdamW(Optimizer):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019)."""

    title: ClassVar[str] = "AdamW"
    name: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = Field(1e-3, description="Size of a step at the schedule's peak.")
    weight_decay: float = Field(
        0.01, ge=0, le=10, description="Pull of every weight towards zero, times the rate."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Memory of the gradient's mean.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Memory of the gradient's square.")
    epsilon: float = Field(
        1e-8, gt=0, le=1, description="Added to the divisor, against division by zero."
    )

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            groups,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            weight_decay=self.weight_decay,
        )


AnyOptimizer = Annotated[Sgd | AdamW, Field(discriminator="name")]
OPTIMIZERS: tuple[type[Optimizer], ...] = get_args(get_args(AnyOptimizer)[0])
