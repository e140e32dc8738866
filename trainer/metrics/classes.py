"""Metrics of examples that belong to one of several classes."""

import torch

from trainer.metrics.base import Metrics, Scored, confusion, mean_of, per_class
from trainer.metrics.calibration import Calibration
from trainer.targets import Targets


class ClassMetrics(Metrics):
    """Accuracy, top-k accuracy, recall averaged over classes, calibration, confusion matrix."""

    def __init__(self, targets: Targets, device: torch.device) -> None:
        super().__init__(targets, device)
        classes = len(targets.classes)
        self.k = 5 if classes > 20 else 3 if classes > 3 else 0
        """How many guesses the model has; none where that would be most of the classes."""
        self.table = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        self.among = torch.zeros((), dtype=torch.int64, device=device)
        self.calibration = Calibration(device, self.sums_in)

    def add(self, output: torch.Tensor, target: torch.Tensor) -> None:
        labels = self.targets.kind.labels(target)
        confidence = output.softmax(dim=1).amax(dim=1)
        # of the scores, not of their softmax, which rounds: as the training counts its hits
        predicted = self.targets.kind.predicted(output)
        confusion(predicted, labels, len(self.table), self.table)
        self.calibration.add(confidence, predicted == labels)
        if self.k:
            self.among += (output.topk(self.k, dim=1).indices == labels[:, None]).sum()

    def scored(self) -> Scored:
        table = self.table.cpu()
        examples, figures = int(table.sum()), per_class(table.double())
        numbers = {
            "accuracy": int(table.diagonal().sum()) / examples,
            "balanced_accuracy": mean_of(figures["recall"]),
            "calibration_error": self.calibration.error(),
        }
        if self.k:
            numbers[f"top{self.k}_accuracy"] = int(self.among) / examples
        return Scored(
            numbers,
            {
                "classes": list(self.targets.classes),
                "confusion": table.tolist(),
                "per_class": figures,
                "reliability": self.calibration.bins(),
            },
        )
