"""Calibration: whether a model that says "90 % sure" is right nine times out of ten."""

from typing import Any

import torch

BINS = 15


class Calibration:
    """Expected calibration error over 15 bins of confidence of equal width.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.sums = torch.zeros(3, BINS, dtype=dtype, device=device)
        """Of each bin: examples, summed confidence, right ones."""

    def add(self, confidence: torch.Tensor, is_right: torch.Tensor) -> None:
        """Of each example how sure the model was, from 0 to 1, and whether it was right: (N,)."""
        place = (confidence * BINS).long().clamp(0, BINS - 1)
        found = torch.stack((torch.ones_like(confidence), confidence, is_right.to(confidence)))
        # a model that gave NaN is sure of nothing
        self.sums.index_add_(1, place, found.nan_to_num().to(self.sums.dtype))

    def error(self) -> float:
        """The mean gap between confidence and accuracy, each bin weighted by its examples."""
        count, confidence, right = self.sums
        return float((confidence - right).abs().sum() / count.sum())

    def bins(self) -> list[dict[str, Any]]:
        """The reliability diagram: of each bin that has examples its confidence and accuracy."""
        rows = self.sums.T.tolist()
        return [
            {"examples": int(count), "confidence": confidence / count, "accuracy": right / count}
            for count, confidence, right in rows
            if count
        ]
