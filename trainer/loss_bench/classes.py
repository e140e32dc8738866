"""Losses of the bench over classes: one of several, and between distributions."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.loss_bench.base import MOST_CLASSES, Arguments, Family, Inputs, WithOldFlags
from trainer.loss_bench.demands import (
    must_be_finite,
    must_be_probabilities,
    must_have_few_classes,
    must_have_one_shape,
    read,
)
from trainer.loss_bench.number_text import Unfit, shape_of
from trainer.losses.base import IGNORED_BY_TORCH
from trainer.losses.weighting import Weight

# -- one of several classes -----------------------------------------------------------------


class Classes(WithOldFlags):
    """A loss of scores (N, C, …) and one class for each place (N, …)."""

    family: ClassVar[Family] = "classes"
    weight: tuple[Weight, ...] = Field(
        (), max_length=MOST_CLASSES, description="How much each class counts; empty: all alike."
    )
    ignore_index: int | None = Field(
        None,
        ge=-(2**31),
        lt=2**31,
        description=f"A class number that does not count. Empty: PyTorch's {IGNORED_BY_TORCH}.",
    )

    @property
    def ignored(self) -> int:
        return IGNORED_BY_TORCH if self.ignore_index is None else self.ignore_index

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        input, target = read("input", self.input), read("target", self.target)
        if input.dim() < 2:
            raise Unfit(
                "input",
                f"{self.torch_name} wants scores (N, C), and these are {shape_of(input.shape)}; "
                "end the row with ; for one example, or write one row per example",
            )
        must_have_few_classes(input)
        return input, self.labels(input, target)

    def labels(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Targets as class numbers (N, …) int64."""
        wanted = (input.shape[0], *input.shape[2:])
        if target.shape != wanted:
            raise Unfit(
                "target",
                f"targets {shape_of(target.shape)} for scores {shape_of(input.shape)}: "
                f"{self.torch_name} wants one class number for each place, {shape_of(wanted)}"
                + self.hint(input, target),
            )
        must_be_finite(target)
        classes = input.shape[1]
        wrong = (target != target.round()) | (target != self.ignored) & (
            (target < 0) | (target >= classes)
        )
        if bool(wrong.any()):
            bad = target[wrong].flatten()[0].item()
            raise Unfit(
                "target",
                f"{bad:g} is no class: there are {classes}, numbered from 0 to {classes - 1}"
                f"; correct it, or make it the ignore_index (now {self.ignored})",
            )
        return target.long()

    def hint(self, input: torch.Tensor, target: torch.Tensor) -> str:
        if target.dim() == 2 and target.shape == (len(input), 1):
            return "; write them in one row, as target.squeeze(1) does"
        return ""

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        arguments: dict[str, Any] = {}
        if self.weight:
            classes = input.shape[1]
            if len(self.weight) != classes:
                given = len(self.weight)
                raise Unfit("weight", f"{given} weights for {classes} classes; write one per class")
            arguments["weight"] = torch.tensor(self.weight)
        if self.ignore_index is not None:
            arguments["ignore_index"] = self.ignore_index
        return arguments


class CrossEntropy(Classes):
    title: ClassVar[str] = "Cross-entropy"
    torch_name: ClassVar[str] = "CrossEntropyLoss"
    inputs_are: ClassVar[Inputs] = "logits"
    name: Literal["cross_entropy"] = "cross_entropy"
    input: str = "2, 0.5, -1; 0.2, 1.5, 0.3"
    target: str = "0, 2"
    label_smoothing: float = Field(
        0.0, ge=0, le=1, description="Share of the target spread evenly over all classes."
    )

    def labels(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Class numbers (N, …) int64, or probabilities in the shape of the scores."""
        if target.shape != input.shape:
            return super().labels(input, target)
        must_be_finite(target)
        must_be_probabilities(target)
        if self.ignore_index is not None and self.ignore_index >= 0:
            raise Unfit(
                "ignore_index",
                "ignore_index needs one class per place, and these targets are probabilities; "
                "leave it empty",
            )
        return target

    def hint(self, input: torch.Tensor, target: torch.Tensor) -> str:
        hint = super().hint(input, target)
        return hint or f", or the probability of each class, {shape_of(input.shape)}"

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        arguments = dict(super().arguments(input, target))
        if self.label_smoothing:
            arguments["label_smoothing"] = self.label_smoothing
        return arguments


class NLL(Classes):
    title: ClassVar[str] = "Negative log-likelihood"
    torch_name: ClassVar[str] = "NLLLoss"
    inputs_are: ClassVar[Inputs] = "logarithms"
    name: Literal["nll"] = "nll"
    input: str = "-0.2413, -1.7413, -3.2413; -1.7424, -0.4424, -1.6424"
    target: str = "0, 2"


# -- distributions --------------------------------------------------------------------------


class KLDiv(WithOldFlags):
    title: ClassVar[str] = "Kullback-Leibler divergence"
    family: ClassVar[Family] = "divergence"
    torch_name: ClassVar[str] = "KLDivLoss"
    inputs_are: ClassVar[Inputs] = "logarithms"
    name: Literal["kl_div"] = "kl_div"
    input: str = "-1.2040, -0.6931, -1.6094; -0.9163, -1.6094, -0.9163"
    target: str = "0.1, 0.6, 0.3; 0.5, 0.25, 0.25"
    # one reduction more than the others have
    reduction: Literal["mean", "batchmean", "sum", "none"] = Field(  # type: ignore[assignment]
        "mean",
        description="mean divides by every element, batchmean by the examples alone: only that "
        "is the divergence as it is defined.",
    )
    log_target: bool = Field(False, description="The targets are logarithms as well.")

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        input, target = read("input", self.input), read("target", self.target)
        must_have_one_shape(self, input, target)
        if self.log_target:
            if bool((target > 0).any()) or bool(target.isnan().any()):
                raise Unfit(
                    "target",
                    "with log_target the targets are logarithms of probabilities, which are never "
                    "above 0; take the logarithm, or switch log_target off",
                )
            return input, target
        must_be_finite(target)
        must_be_probabilities(target)
        return input, target

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        return {"log_target": True} if self.log_target else {}
