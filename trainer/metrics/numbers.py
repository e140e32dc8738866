"""Metrics of targets that are numbers."""

import math

import torch

from trainer.metrics.base import Metrics, Scored
from trainer.targets import Targets


class NumberMetrics(Metrics):
    """R², and the mean absolute and the root mean squared error in the units of the data."""

    def __init__(self, targets: Targets, device: torch.device) -> None:
        super().__init__(targets, device)
        self.sums = torch.zeros(5, dtype=self.sums_in, device=device)
        """Values, absolute errors, squared errors, targets, squared targets."""

    def add(self, output: torch.Tensor, target: torch.Tensor) -> None:
        error, target = (output - target).to(self.sums.dtype), target.to(self.sums.dtype)
        self.sums += torch.stack(
            (
                torch.full_like(self.sums[0], target.numel()),
                error.abs().sum(),
                error.square().sum(),
                target.sum(),
                target.square().sum(),
            )
        )

    def scored(self) -> Scored:
        count, absolute, squared, total, total_squared = self.sums.tolist()
        around_mean = total_squared - total**2 / count
        spread = self.targets.spread
        return Scored(
            {
                "r2": 1 - squared / around_mean if around_mean > 0 else math.nan,
                "mae": spread * absolute / count,
                "rmse": spread * math.sqrt(squared / count),
            }
        )
