"""Losses for one of several classes: of an example, or of each pixel."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from trainer.losses.base import Criterion
from trainer.losses.weighting import WeightedLoss
from trainer.targets import Kind, Targets


class ClassLoss(WeightedLoss):
    """A loss over scores (N, C, …) and class numbers (N, …)."""

    ignore_index: int | None = Field(
        None,
        ge=-(2**31),
        lt=2**31,
        description="A class number that does not count. Empty: what the task marks as unknown, "
        "where it does.",
    )

    def unfit(self, targets: Targets) -> tuple[str, str] | None:
        if reason := super().unfit(targets):
            return reason
        if self.ignore_index is None:
            return None
        if targets.kind is Kind.DISTRIBUTION:
            return "ignore_index", (
                "ignore_index needs one class per example, and this task gives the probability of "
                "each; leave it empty"
            )
        if targets.ignored not in (None, self.ignore_index):
            return "ignore_index", (
                f"this task marks what is unknown by {targets.ignored}, which must stay ignored; "
                "leave ignore_index empty"
            )
        return None

    def ignores(self, targets: Targets) -> int | None:
        return targets.ignored if self.ignore_index is None else self.ignore_index

    def mean_divides_by(
        self, output: torch.Tensor, target: torch.Tensor, criterion: Criterion
    ) -> float | torch.Tensor:
        if target.is_floating_point():
            # also with weights: PyTorch divides probability targets by the batch alone
            return float(target.numel() // target.shape[1])
        weights = criterion.weights_like(output)
        if criterion.ignored is None:
            return float(target.numel()) if weights is None else weights[target].sum()
        counted = target != criterion.ignored
        if weights is None:
            return counted.sum()
        return weights[torch.where(counted, target, 0)].mul(counted).sum()

    def elements(self, output: torch.Tensor, target: torch.Tensor) -> float:
        return float(output.numel() // output.shape[1])


class CrossEntropy(ClassLoss):
    """Negative log-probability of the right class after a softmax; takes raw scores.

    The usual loss for classes. With class weights its mean divides by the weights of the targets
    that were there, not by their number, so batches do not simply average.
    """

    title: ClassVar[str] = "Cross-entropy"
    suits: ClassVar[frozenset[Kind]] = frozenset({Kind.CLASSES, Kind.PIXELS, Kind.DISTRIBUTION})
    torch_name: ClassVar[str] = "CrossEntropyLoss"
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread evenly over all classes."
    )

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        return F.cross_entropy(
            output,
            target,
            weight=criterion.weights_like(output),
            ignore_index=criterion.ignore_index,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )


class NegativeLogLikelihood(ClassLoss):
    """Negative log-probability of the right class, with the log-softmax as a step of its own.

    The same numbers as cross-entropy. NLLLoss2d of old PyTorch is this loss on pixels: scores
    (N, C, H, W) against class numbers (N, H, W).
    """

    title: ClassVar[str] = "Negative log-likelihood"
    suits: ClassVar[frozenset[Kind]] = frozenset({Kind.CLASSES, Kind.PIXELS})
    torch_name: ClassVar[str] = "NLLLoss"
    name: Literal["nll"] = "nll"

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        return F.nll_loss(
            F.log_softmax(output, dim=1),
            target,
            weight=criterion.weights_like(output),
            ignore_index=criterion.ignore_index,
            reduction=reduction,
        )
