"""Metrics of examples that are yes or no."""

import torch

from trainer.metrics.base import Metrics, Scored, confusion, mean_of, per_class
from trainer.metrics.calibration import Calibration
from trainer.targets import Targets


class BinaryMetrics(Metrics):
    """Accuracy, recall, precision, F1 of yes, area under the ROC curve, calibration."""

    def __init__(self, targets: Targets, device: torch.device) -> None:
        super().__init__(targets, device)
        self.table = torch.zeros(2, 2, dtype=torch.int64, device=device)
        self.calibration = Calibration(device, self.sums_in)
        self.scores: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def add(self, output: torch.Tensor, target: torch.Tensor) -> None:
        labels = self.targets.kind.labels(target).flatten()
        predicted = self.targets.kind.predicted(output).flatten()
        confusion(predicted.long(), labels.long(), 2, self.table)
        yes = output.sigmoid().flatten()
        self.calibration.add(torch.maximum(yes, 1 - yes), predicted == labels)
        self.scores.append(output.flatten())
        self.labels.append(labels)

    def scored(self) -> Scored:
        table = self.table.cpu()
        figures = per_class(table.double())
        numbers = {
            "accuracy": int(table.diagonal().sum()) / int(table.sum()),
            "balanced_accuracy": mean_of(figures["recall"]),
            "recall": figures["recall"][1],
            "precision": figures["precision"][1],
            "f1": figures["f1"][1],
            "auc": area_under_roc(torch.cat(self.scores), torch.cat(self.labels)),
            "calibration_error": self.calibration.error(),
        }
        return Scored(
            numbers,
            {
                "classes": list(self.targets.classes),
                "confusion": table.tolist(),
                "per_class": figures,
                "reliability": self.calibration.bins(),
            },
        )


def area_under_roc(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """How likely a yes scores higher than a no, ties counting half; NaN where one is missing.

    By the ranks of all scores (N,), as Mann and Whitney's U (1947).
    """
    scores, labels = scores.double().cpu(), labels.cpu()
    yes = int(labels.sum())
    no = len(labels) - yes
    if not yes or not no or bool(scores.isnan().any()):
        return float("nan")
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    # tied scores share the mean of their ranks
    rank = (last - (counts - 1) / 2)[place]
    return (float(rank[labels].sum()) - yes * (yes + 1) / 2) / (yes * no)
