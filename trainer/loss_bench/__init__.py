"""The loss bench: a loss of torch.nn taken apart, for numbers small enough to look at each."""

from trainer.loss_bench.base import BenchLoss
from trainer.loss_bench.bench import Found, find
from trainer.loss_bench.classes import NLL, CrossEntropy, KLDiv
from trainer.loss_bench.elementwise import BCE, L1, MSE, BCEWithLogits, Huber, SmoothL1
from trainer.loss_bench.number_text import Numbers, Unfit, numbers
from trainer.loss_bench.presets import PRESETS, Preset

BENCH_LOSSES: tuple[type[BenchLoss], ...] = (
    L1, SmoothL1, Huber, MSE, BCE, BCEWithLogits, CrossEntropy, NLL, KLDiv,
)  # fmt: skip

__all__ = [
    "BENCH_LOSSES",
    "PRESETS",
    "BenchLoss",
    "Found",
    "Numbers",
    "Preset",
    "Unfit",
    "find",
    "numbers",
]
