"""Metrics: sums over a whole set of examples, kept on the device until all of it has passed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from trainer.targets import Targets


@dataclass(frozen=True)
class Scored:
    """How a model did: numbers that become curves, and what stands behind them."""

    numbers: Mapping[str, float]
    """By the name of the metric, without what it was measured on."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """As JSON: the confusion matrix, figures of each class and the like."""


class Metrics:
    """Gathers outputs and targets batch by batch; nothing is read back before `scored`."""

    def __init__(self, targets: Targets, device: torch.device) -> None:
        self.targets, self.device = targets, device

    @property
    def sums_in(self) -> torch.dtype:
        """float64 for sums over a whole set, except where the device has none (MPS)."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def add(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Outputs and targets of one batch, on the device."""
        raise NotImplementedError

    def scored(self) -> Scored:
        """What it comes to. NaN where there was nothing to divide by."""
        raise NotImplementedError


def confusion(
    predicted: torch.Tensor, labels: torch.Tensor, classes: int, into: torch.Tensor
) -> None:
    """Count pairs of class numbers (N,) into a table (classes, classes): right ones down, as rows.

    By index_add: bincount would wait for the device, and scatter has no deterministic form.
    """
    pairs = labels * classes + predicted
    into.view(-1).index_add_(0, pairs, torch.ones_like(pairs))


def per_class(table: torch.Tensor) -> dict[str, list[float]]:
    """Recall, precision and F1 of each class of a confusion matrix (right, predicted) in float64.

    NaN where a class never is right, or never predicted.
    """
    hits, right, said = table.diagonal(), table.sum(1), table.sum(0)
    return {
        "recall": (hits / right).tolist(),
        "precision": (hits / said).tolist(),
        "f1": (2 * hits / (right + said)).tolist(),
        "count": right.tolist(),
    }


def mean_of(values: list[float]) -> float:
    """The mean of those that are numbers; NaN where none is."""
    return float(torch.tensor(values, dtype=torch.float64).nanmean())
