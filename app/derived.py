"""Derived: what follows from a run's row, and which of its columns it takes to tell."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.metrics import kind_of
from app.models import Status
from trainer.config import RunConfig
from trainer.failures import Cause


@dataclass(frozen=True)
class Derived:
    """Something a run shows beside its columns."""

    columns: tuple[str, ...]
    """Those it is derived from; others need not be there."""
    of: Callable[[Any], Any]


def progress(row: Any) -> float | None:
    """The share of its steps that a run has done; None before the number is known."""
    if row.status == Status.FINISHED:
        return 1.0
    if not row.total_steps:
        return None
    return min(1.0, float(row.step / row.total_steps))


def seconds_left(row: Any) -> float | None:
    """At the pace so far; None where nothing is known, or nothing is left."""
    if row.status != Status.RUNNING or not row.total_steps or not row.step:
        return None
    seconds = (row.total_steps - row.step) * seconds_per_step(row)
    if (budget := row.config["budget"]["seconds"]) is not None:
        seconds = min(seconds, budget - row.train_seconds)
    return float(max(0.0, seconds))


def seconds_per_step(row: Any) -> Any:
    """All that passed since the start, evaluation included; only training for a resumed run."""
    passed = time.time() - row.started_at if row.attempt == 1 else row.train_seconds
    return passed / row.step


def samples_per_second(row: Any) -> Any:
    """Of the whole training, or of what is done of it; None before there is anything to tell."""
    if row.result:
        return row.result.get("samples_per_second")
    if row.status != Status.RUNNING or not row.train_seconds or not row.steps_per_epoch:
        return None
    examples = RunConfig.model_validate(row.config).task.facts().train_examples
    return row.step / row.steps_per_epoch * examples / row.train_seconds


PACE = ("status", "step", "config", "train_seconds")

DERIVED = {
    "status_meaning": Derived(("status",), lambda row: Status(row.status).meaning),
    "advice": Derived(("cause",), lambda row: Cause(row.cause).advice if row.cause else ""),
    "progress": Derived(("status", "step", "total_steps"), progress),
    "seconds_left": Derived((*PACE, "total_steps", "started_at", "attempt"), seconds_left),
    "samples_per_second": Derived((*PACE, "result", "steps_per_epoch"), samples_per_second),
    "tricks": Derived(("trick_names",), lambda row: row.trick_names.split()),
    "main_metric": Derived(("config",), lambda row: kind_of(row.config).main_metric),
}
