"""Losses for one class per example: outputs (N, C) are scores, targets (N,) class numbers."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from trainer.losses.base import Loss, Reduction


class CrossEntropy(Loss):
    """Negative log-probability of the right class after a softmax; takes raw scores."""

    title: ClassVar[str] = "Cross-entropy"
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread evenly over all classes."
    )

    def value(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.reduced(output, target, self.reduction)

    def total(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.reduced(output, target, "sum")

    def averaged_over(self, output: torch.Tensor, target: torch.Tensor) -> float:
        return float(target.numel())

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Reduction
    ) -> torch.Tensor:
        return F.cross_entropy(
            output, target, reduction=reduction, label_smoothing=self.label_smoothing
        )


class MeanSquaredError(Loss):
    """Squared difference between the scores and a one-hot target, over every class.

    Competitive with cross-entropy for classification: Hui and Belkin, "Evaluation of Neural
    Architectures Trained with Square Loss vs Cross-Entropy", 2021.
    """

    title: ClassVar[str] = "Mean squared error"
    name: Literal["mse"] = "mse"

    def value(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(output, one_hot(output, target), reduction=self.reduction)

    def total(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(output, one_hot(output, target), reduction="sum")

    def averaged_over(self, output: torch.Tensor, target: torch.Tensor) -> float:
        return float(output.numel())


def one_hot(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Class numbers (N,) as rows (N, C) of zeros and one 1, in the type of the output."""
    return F.one_hot(target, output.shape[-1]).to(output.dtype)
