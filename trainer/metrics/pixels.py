"""Metrics of pictures in which every pixel has a class."""

import torch

from trainer.metrics.base import Metrics, Scored, confusion, mean_of, per_class
from trainer.targets import Targets


class PixelMetrics(Metrics):
    """Share of right pixels, intersection over union of each class and their mean.

    Pixels whose class nobody knows count in neither. As in the PASCAL VOC challenge (Everingham
    and others, 2010): intersection and union are summed over all pictures, then divided.
    """

    def __init__(self, targets: Targets, device: torch.device) -> None:
        super().__init__(targets, device)
        classes = len(targets.classes)
        # one more row and column: for unknown pixels, so that none has to be picked out
        self.table = torch.zeros(classes + 1, classes + 1, dtype=torch.int64, device=device)

    def add(self, output: torch.Tensor, target: torch.Tensor) -> None:
        unknown = len(self.targets.classes)
        labels = (
            target
            if self.targets.ignored is None
            else target.where(target != self.targets.ignored, unknown)
        )
        predicted = self.targets.kind.predicted(output)
        confusion(predicted.flatten(), labels.flatten(), len(self.table), self.table)

    def scored(self) -> Scored:
        known = len(self.targets.classes)
        table = self.table[:known, :known].cpu()
        exact, figures = table.double(), per_class(table.double())
        hits = exact.diagonal()
        figures["iou"] = (hits / (exact.sum(0) + exact.sum(1) - hits)).tolist()
        return Scored(
            {
                "accuracy": int(table.diagonal().sum()) / max(int(table.sum()), 1),
                "balanced_accuracy": mean_of(figures["recall"]),
                "iou": mean_of(figures["iou"]),
            },
            {
                "classes": list(self.targets.classes),
                "confusion": table.tolist(),
                "per_class": figures,
            },
        )
