"""reproducibility: whether a config trains to the same bits twice."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from trainer.inquiry import AboutConfig, Bench
from trainer.proofs.reproducibility import reproduce


class Reproducibility(AboutConfig):
    """Train the first steps of a config twice, each in a fresh process, and compare every bit.

    Batches, outputs of layers, gradients, weights and losses of every step are hashed. The answer
    is bit-identical, or the first step and layer that differ. It holds for this machine, these
    versions and this number of threads.
    """

    title: ClassVar[str] = "Reproducibility"
    name: Literal["reproducibility"] = "reproducibility"
    steps: int = Field(20, ge=1, le=10_000, description="Optimizer steps to compare.")

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        device = str(bench.device)
        return reproduce(self.config, bench.data, device, self.steps, bench.tell).told()
