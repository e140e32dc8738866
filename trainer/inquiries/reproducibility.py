"""reproducibility: whether a config trains to the same bits twice."""

import multiprocessing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.inquiries.base import Bench, Inquiry
from trainer.proofs.reproducibility import reproduce


class Reproducibility(Inquiry):
    """Train the first steps of a config twice, each in a fresh process, and compare every bit.

    Batches, outputs of layers, gradients, weights and losses of every step are hashed. The answer
    is bit-identical, or the first step and layer that differ. It holds for this machine, these
    versions and this number of threads.
    """

    title: ClassVar[str] = "Reproducibility"
    name: Literal["reproducibility"] = "reproducibility"
    steps: int = Field(20, ge=1, le=10_000, description="Optimizer steps to compare.")

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        # forking is quick, and safe as long as this process has computed nothing
        forks = "fork" in multiprocessing.get_all_start_methods()
        is_fresh = forks and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        context = multiprocessing.get_context("fork" if is_fresh else "spawn")
        found = reproduce(
            self.config, bench.data, str(bench.device), self.steps, bench.tell, context
        )
        return found.told()
