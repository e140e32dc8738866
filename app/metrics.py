"""Metrics: how the names that runs record are titled, written and judged on pages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from trainer.part import name_of
from trainer.targets import Kind
from trainer.tasks import TASKS


@dataclass(frozen=True)
class Metric:
    """What people call a measure, and how it is written."""

    title: str
    shown_as: str = "number"
    """The template filter that writes it."""
    is_lower_better: bool = False


METRICS: Mapping[str, Metric] = {
    "loss": Metric("Loss", is_lower_better=True),
    "accuracy": Metric("Accuracy", "share"),
    "balanced_accuracy": Metric("Balanced accuracy", "share"),
    "top3_accuracy": Metric("Top-3 accuracy", "share"),
    "top5_accuracy": Metric("Top-5 accuracy", "share"),
    "iou": Metric("IoU", "share"),
    "recall": Metric("Recall", "share"),
    "precision": Metric("Precision", "share"),
    "f1": Metric("F1", "share"),
    "auc": Metric("Area under ROC", "number"),
    "r2": Metric("R²"),
    "mae": Metric("Mean absolute error", is_lower_better=True),
    "rmse": Metric("Root mean squared error", is_lower_better=True),
    "calibration_error": Metric("Calibration error", "share", is_lower_better=True),
    "learning_rate": Metric("Learning rate"),
    "data_seconds": Metric("Seconds waiting for data", is_lower_better=True),
}
"""By name without train_ or val_, in the order of pages."""

SPLITS = {"train_": "Training", "val_": "Test"}


def card_of(name: str) -> str:
    """Training and test share a card: the name of a metric without its split."""
    return name.removeprefix("train_").removeprefix("val_")


def metric(name: str) -> Metric:
    """How to show a metric; one that nobody foresaw goes by its own name."""
    plain = card_of(name)
    return METRICS.get(plain) or Metric(plain.replace("_", " ").capitalize())


def title(name: str) -> str:
    """The title with the split in front: Test accuracy."""
    split = next((words for prefix, words in SPLITS.items() if name.startswith(prefix)), "")
    own = metric(name).title
    # F1, R², IoU and the like keep their capitals
    first = own.split()[0]
    is_name = first[1:2] in ("1", "²") or any(letter.isupper() for letter in first[1:])
    lowered = own if is_name else own[0].lower() + own[1:]
    return f"{split} {lowered}" if split else own


@cache
def kinds() -> Mapping[str, Kind]:
    return {name_of(task): task().facts().kind for task in TASKS}


def kind_of(config: Mapping[str, Any]) -> Kind:
    """What the task of a stored config asks for."""
    return kinds().get(config["task"]["name"], Kind.CLASSES)


def cards(names: Iterable[str], main: str) -> list[tuple[str, str]]:
    """The cards of a run's curves, name and title, in the order of pages.

    Loss, the main metric and the learning rate have a place before there are points of them.
    """
    first = ["loss", card_of(main)]
    present = {*map(card_of, names), *first, "learning_rate"} - set(first)
    order = [*METRICS]
    rest = sorted(present, key=lambda one: (order.index(one) if one in order else 99, one))
    return [(one, metric(one).title) for one in [*first, *rest]]
