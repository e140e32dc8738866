"""Loss: what training makes small, with the normaliser that accumulation needs."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.part import Part, Refused
from trainer.targets import Kind, Targets, class_counts

Reduction = Literal["mean", "sum", "none"]
IGNORED_BY_TORCH = -100
"""The class number that PyTorch's losses leave out unless told otherwise."""


class Loss(Part):
    """A loss over outputs (N, C, …) and targets (N, …); the outputs are always raw scores.

    It becomes a `Criterion` with the weights that follow from the training examples.
    """

    suits: ClassVar[frozenset[Kind]]
    torch_name: ClassVar[str]
    """What it is called in torch.nn."""

    reduction: Reduction = Field(
        "mean",
        description="mean divides by what the loss averages over; sum does not, so the gradient "
        "grows with the batch; none keeps a value per element, of which a step takes the plain "
        "mean: weights and ignored targets then do not change what it divides by.",
    )
    size_average: bool | None = Field(
        None,
        description="Of PyTorch before 0.4.1: off meant sum. Overrides the reduction, as it does "
        "in PyTorch; leave empty.",
    )
    reduce: bool | None = Field(
        None,
        description="Of PyTorch before 0.4.1: off meant none, whatever size_average says. "
        "Overrides the reduction; leave empty.",
    )

    @property
    def reduced_by(self) -> str:
        """The reduction that counts: that of the old flags where one is given.

        As torch.nn._reduction.legacy_get_string maps them.
        """
        if self.size_average is None and self.reduce is None:
            return self.reduction
        if self.reduce is False:
            return "none"
        return "sum" if self.size_average is False else "mean"

    @property
    def mapping_of_old_flags(self) -> str:
        """What the old flags were taken for; empty where none is given."""
        flags = {"size_average": self.size_average, "reduce": self.reduce}
        given = [f"{name}={value}" for name, value in flags.items() if value is not None]
        if not given:
            return ""
        instead = f"; it overrides reduction={self.reduction!r}"
        return (
            f"{' and '.join(given)} of old PyTorch means reduction={self.reduced_by!r} today"
            f"{instead if self.reduced_by != self.reduction else ''}; use reduction instead"
        )

    def unfit(self, targets: Targets) -> tuple[str, str] | None:
        """The field to blame and why this loss cannot be used on such targets, or None."""
        if targets.kind in self.suits:
            return None
        wanted = " or ".join(kind.meaning for kind in Kind if kind in self.suits)
        return "name", (
            f"{self.torch_name} is for {wanted}, and this task asks for {targets.kind.meaning}; "
            "choose another task, or another loss"
        )

    def criterion(
        self,
        targets: Targets,
        examples: torch.Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> "Criterion":
        """The loss ready for training on targets such as these `examples` (N, …).

        Raises Refused where it does not suit them.
        """
        if reason := self.unfit(targets):
            raise Refused(f"loss.{reason[0]}: {reason[1]}")
        ignored = self.ignores(targets)
        counts = None
        if examples is not None and targets.classes:
            counts = class_counts(targets.kind, examples, len(targets.classes), ignored)
        weights = self.weights_for(targets, counts)
        return Criterion(
            self,
            None if weights is None else weights.float().to(device),
            ignored,
        )

    def ignores(self, targets: Targets) -> int | None:
        """The class number that is left out, if any."""
        return targets.ignored

    def weights_for(self, targets: Targets, counts: torch.Tensor | None) -> torch.Tensor | None:
        """The weights of classes (C,), given how often each occurs; None where all are 1."""
        return None

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: "Criterion"
    ) -> torch.Tensor:
        """PyTorch's loss: scalar for "mean" and "sum", a value per element for "none"."""
        raise NotImplementedError

    def mean_divides_by(
        self, output: torch.Tensor, target: torch.Tensor, criterion: "Criterion"
    ) -> float | torch.Tensor:
        """What PyTorch's mean divides by: elements, valid targets or summed weights."""
        return float(output.numel())

    def elements(self, output: torch.Tensor, target: torch.Tensor) -> float:
        """How many values reduction="none" gives."""
        return float(output.numel())


@dataclass(frozen=True)
class Criterion:
    """A loss with its weights on the device of the training.

    Invariant: `value == total / divisor(averaged_over)` up to rounding, and both `total` and
    `averaged_over` add up over batches. That is what lets gradient accumulation be right for
    every loss and every reduction.
    """

    loss: Loss
    weights: torch.Tensor | None = None
    """Of each class, (C,) float32 on the device; None where all are 1."""
    ignored: int | None = None

    def value(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of one batch, reduced as chosen: a scalar with a gradient."""
        by = self.loss.reduced_by
        value = self.loss.reduced(output, target, by, self)
        return value.mean() if by == "none" else value

    def total(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The same loss summed instead of averaged: a scalar with a gradient."""
        return self.loss.reduced(output, target, "sum", self)

    def elements(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of each element, as reduction="none" gives it."""
        return self.loss.reduced(output, target, "none", self)

    def averaged_over(self, output: torch.Tensor, target: torch.Tensor) -> float | torch.Tensor:
        """What the reduction divides by; a tensor where it depends on the targets."""
        if self.loss.reduced_by == "none":
            return self.loss.elements(output, target)
        return self.loss.mean_divides_by(output, target, self)

    def divisor(self, averaged_over: float | torch.Tensor) -> float | torch.Tensor:
        """What the chosen reduction divides a total over that much by; 1 for a sum."""
        return 1.0 if self.loss.reduced_by == "sum" else averaged_over

    @property
    def ignore_index(self) -> int:
        """What PyTorch is told to leave out."""
        return IGNORED_BY_TORCH if self.ignored is None else self.ignored

    def weights_like(self, output: torch.Tensor) -> torch.Tensor | None:
        return None if self.weights is None else self.weights.to(output.dtype)
