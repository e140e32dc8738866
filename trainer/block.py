"""Block: the values of many steps, waiting on the device to be read back all at once."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from trainer.setup import Hits
from trainer.store.packing import Points
from trainer.store.writer import SeriesKey

Columns = Mapping[SeriesKey, Points]
Value = torch.Tensor | Hits | float
"""A scalar tensor, a number, or predictions of which the share that is right is recorded."""


@dataclass
class Block:
    """What steps measured, one list per series, as it came.

    Lists of numbers and tensors: rows would be thousands of containers, which Python's collector
    looks through again and again.
    """

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: defaultdict[str, list[Value]] = field(default_factory=lambda: defaultdict(list))
    scores: dict[SeriesKey, list[tuple[int, float, float]]] = field(default_factory=dict)
    """What is measured now and then: step, value, time."""

    def add(self, step: int, values: Mapping[str, Value]) -> None:
        """The same names at every step."""
        self.steps.append(step)
        self.times.append(time.time())
        for name, value in values.items():
            self.values[name].append(value)

    def add_scores(self, step: int, values: Mapping[SeriesKey, float]) -> None:
        now = time.time()
        for key, value in values.items():
            self.scores.setdefault(key, []).append((step, value, now))

    def read_back(self) -> Columns:
        """What every step measured, in host memory: one wait for the device per series."""
        steps, times = np.asarray(self.steps), np.asarray(self.times)
        return {
            SeriesKey(name): Points(steps, in_host_memory(values), times)
            for name, values in self.values.items()
        }

    def scored(self) -> Columns:
        """What was measured now and then."""
        found = {}
        for key, scores in self.scores.items():
            steps, values, times = zip(*scores, strict=True)
            found[key] = Points(np.asarray(steps), np.asarray(values), np.asarray(times))
        return found


def in_host_memory(values: Sequence[Value]) -> npt.NDArray[np.float64]:
    """Values of one kind as numbers."""
    if isinstance(values[0], Hits):
        return shares(cast(list[Hits], values))
    if isinstance(values[0], torch.Tensor):
        return torch.stack(cast(list[torch.Tensor], values)).cpu().double().numpy()
    return np.asarray(values, np.float64)


def shares(hits: Sequence[Hits]) -> npt.NDArray[np.float64]:
    """The share of each step's predictions that is right, rounded to single precision."""
    kind, ignored = hits[0].kind, hits[0].ignored
    labels = kind.labels(torch.cat([tensor for one in hits for tensor in one.targets]))
    classes = classes_of([tensor for one in hits for tensor in one.outputs], hits[0])
    right = per_example(classes == labels)
    examples = np.asarray([sum(map(len, one.targets)) for one in hits])
    starts = np.cumsum(examples) - examples
    correct = np.add.reduceat(right, starts, dtype=np.int64).astype(np.float32)
    if labels.dim() > 1 or ignored is not None:
        known = (
            labels != ignored if ignored is not None else torch.ones_like(labels, dtype=torch.bool)
        )
        examples = np.add.reduceat(per_example(known), starts, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return (correct / examples.astype(np.float32)).astype(np.float64)


def per_example(are_true: torch.Tensor) -> npt.NDArray[Any]:
    """How many of each example's values (N, …) are true: (N,), in host memory."""
    counted = are_true.flatten(1).sum(1) if are_true.dim() > 1 else are_true
    return counted.cpu().numpy()


def classes_of(outputs: Sequence[torch.Tensor], hits: Hits) -> torch.Tensor:
    """The predicted classes of all batches, each given as scores or as classes already."""
    are_scores = [tensor.is_floating_point() for tensor in outputs]
    if all(are_scores):
        return hits.kind.predicted(torch.cat(list(outputs)))
    pairs = zip(outputs, are_scores, strict=True)
    return torch.cat([hits.kind.predicted(one) if scores else one for one, scores in pairs])
