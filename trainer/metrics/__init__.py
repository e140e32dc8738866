"""What a model is scored by, for each kind of target."""

from trainer.metrics.base import Metrics, Scored
from trainer.metrics.binary import BinaryMetrics
from trainer.metrics.classes import ClassMetrics
from trainer.metrics.numbers import NumberMetrics
from trainer.metrics.pixels import PixelMetrics
from trainer.targets import Kind

METRICS: dict[Kind, type[Metrics]] = {
    Kind.CLASSES: ClassMetrics,
    Kind.DISTRIBUTION: ClassMetrics,
    Kind.BINARY: BinaryMetrics,
    Kind.PIXELS: PixelMetrics,
    Kind.NUMBERS: NumberMetrics,
}

__all__ = [
    "METRICS",
    "BinaryMetrics",
    "ClassMetrics",
    "Metrics",
    "NumberMetrics",
    "PixelMetrics",
    "Scored",
]
