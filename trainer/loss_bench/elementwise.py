"""Losses of the bench that compare element by element: distances, and yes or no."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from trainer.loss_bench.base import MOST_CLASSES, Arguments, BenchLoss, Family, Inputs, WithOldFlags
from trainer.loss_bench.demands import (
    must_be_between,
    must_be_finite,
    must_have_one_shape,
    must_stretch,
    read,
)
from trainer.loss_bench.number_text import Unfit, as_code
from trainer.losses.weighting import Weight

# -- distances ------------------------------------------------------------------------------


class Distance(BenchLoss):
    """A loss of two tensors of one shape, element by element."""

    family: ClassVar[Family] = "distance"
    inputs_are: ClassVar[Inputs] = "numbers"
    input: str = "0.5, 1; -1.5, 3"
    target: str = "1, 1; 0.5, -1"

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        input, target = read("input", self.input), read("target", self.target)
        must_be_finite(target)
        must_have_one_shape(self, input, target)
        return input, target


class L1(Distance, WithOldFlags):
    title: ClassVar[str] = "Absolute error (L1)"
    torch_name: ClassVar[str] = "L1Loss"
    name: Literal["l1"] = "l1"


class SmoothL1(Distance, WithOldFlags):
    title: ClassVar[str] = "Smooth L1"
    torch_name: ClassVar[str] = "SmoothL1Loss"
    name: Literal["smooth_l1"] = "smooth_l1"
    beta: float = Field(
        1.0, ge=0, le=1e6, description="Where it turns from squared to absolute; 0 is L1."
    )

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        return {} if self.beta == 1 else {"beta": self.beta}


class Huber(Distance):
    title: ClassVar[str] = "Huber"
    torch_name: ClassVar[str] = "HuberLoss"
    name: Literal["huber"] = "huber"
    delta: float = Field(1.0, gt=0, le=1e6, description="Where it turns from squared to straight.")

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        return {} if self.delta == 1 else {"delta": self.delta}


class MSE(Distance, WithOldFlags):
    title: ClassVar[str] = "Mean squared error"
    torch_name: ClassVar[str] = "MSELoss"
    name: Literal["mse"] = "mse"


# -- yes or no ------------------------------------------------------------------------------


class Binary(WithOldFlags):
    """A loss of yes and no: elements weighed one by one, or by their target."""

    family: ClassVar[Family] = "binary"
    weight: str = Field(
        "",
        description="Of each element, in the shape of the input or one that stretches to it; "
        "written as the input is.",
    )
    weight_by_target: tuple[Weight, ...] = Field(
        (),
        max_length=2,
        description="Two numbers, of no and of yes: the weight of an element is the one its "
        "target picks. Targets must be 0 or 1.",
    )

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        weight = self.element_weights(input, target)
        return {} if weight is None else {"weight": weight}

    def element_weights(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
        if self.weight_by_target:
            if self.weight.strip():
                raise Unfit("weight", "weight_by_target weighs the elements as well; keep one")
            if len(self.weight_by_target) != 2:
                raise Unfit("weight_by_target", "write two numbers: the weights of no and of yes")
            if not bool(((target == 0) | (target == 1)).all()):
                raise Unfit(
                    "weight_by_target",
                    "weight[target.long()] cuts targets such as 0.7 down to 0; make all targets 0 "
                    "or 1, or give a weight per element",
                )
            return torch.tensor(self.weight_by_target)[target.long()]
        if not self.weight.strip():
            return None
        weight = read("weight", self.weight)
        must_be_finite(weight, "weight")
        must_stretch("weight", weight, input)
        return weight

    def codes(self, arguments: Arguments) -> dict[str, str]:
        codes = super().codes(arguments)
        if self.weight_by_target:
            given = as_code(torch.tensor(self.weight_by_target))
            codes["weight"] = f"{given}[target.long()]"
        return codes


class BCE(Binary):
    title: ClassVar[str] = "Binary cross-entropy"
    torch_name: ClassVar[str] = "BCELoss"
    inputs_are: ClassVar[Inputs] = "probabilities"
    name: Literal["bce"] = "bce"
    input: str = "0.9, 0.2, 0.6"
    target: str = "1, 0, 0"

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        input, target = read("input", self.input), read("target", self.target)
        must_have_one_shape(self, input, target)
        way_out = (
            "BCELoss takes probabilities, from 0 to 1, and PyTorch stops with an error; put a "
            "sigmoid before it, or take BCEWithLogitsLoss for raw scores"
        )
        must_be_between(input, 0, 1, "input", way_out)
        must_be_between(target, 0, 1, "target", "targets of BCELoss go from 0 (no) to 1 (yes)")
        return input, target


class BCEWithLogits(Binary):
    title: ClassVar[str] = "Binary cross-entropy with logits"
    torch_name: ClassVar[str] = "BCEWithLogitsLoss"
    inputs_are: ClassVar[Inputs] = "logits"
    name: Literal["bce_with_logits"] = "bce_with_logits"
    input: str = "2, -1, 0.5"
    target: str = "1, 0, 0"
    pos_weight: tuple[Weight, ...] = Field(
        (),
        max_length=MOST_CLASSES,
        description="What a yes counts against a no: one number, or one per column. Around noes "
        "divided by yeses where yes is rare.",
    )

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        input, target = read("input", self.input), read("target", self.target)
        must_be_finite(target)
        must_have_one_shape(self, input, target)
        return input, target

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        arguments = dict(super().arguments(input, target))
        if self.pos_weight:
            arguments["pos_weight"] = torch.tensor(self.pos_weight)
            must_stretch("pos_weight", arguments["pos_weight"], input)
        return arguments
