"""seed: every process-wide generator starts from the run's seed."""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from trainer.setup import Setup
from trainer.streams import stream_seed
from trainer.tricks.base import Claim, Exactness, Stage, Trick


class Seed(Trick):
    """Start every process-wide random generator from the run's seed.

    Initial weights and data order always follow the run's seed, so that runs can be compared in
    pairs. Everything else that draws numbers (dropout, code of your own that uses `random`,
    NumPy or torch) draws from generators of the whole process, which start somewhere new in
    every run. With this trick they start from the seed too, and the run can be repeated.
    """

    title: ClassVar[str] = "Seed"
    stage: ClassVar[Stage] = Stage.PROCESS
    exactness: ClassVar[Exactness] = Exactness.EXACT
    claim: ClassVar[Claim] = Claim(
        "reproducibility", lower=False, source="PyTorch documentation, Reproducibility"
    )
    helps: ClassVar[tuple[str, ...]] = (
        "Always, where a result is to be shown to somebody else, or compared with another run.",
        "Where a run fails now and then: with a seed it fails again.",
    )
    cost: ClassVar[str] = "No time to speak of."
    traps: ClassVar[tuple[str, ...]] = (
        "A seed holds for one machine, one torch version and one number of threads.",
        "Operations without a deterministic form still differ; add the deterministic trick.",
        "The seed is itself a choice that moves the result: compare over several.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "Bouthillier and others, Accounting for Variance in Machine Learning Benchmarks, 2021",
        "Picard, Torch.manual_seed(3407) is all you need, 2021",
    )
    name: Literal["seed"] = "seed"

    def apply(self, setup: Setup) -> None:
        setup.switches.append(lambda: seeded(setup.seed))

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        return {
            "seed": setup.seed,
            "generators": seeds_of(setup.seed),
            "python_hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        }


def seeds_of(seed: int) -> dict[str, int]:
    """The seed that each process-wide generator gets; NumPy takes 32 bits only."""
    accelerators = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    seeds = {
        "torch": stream_seed(seed, "torch"),
        "numpy": stream_seed(seed, "numpy") % 2**32,
        "random": stream_seed(seed, "random"),
    }
    if accelerators:
        seeds["accelerators"] = seeds["torch"]
    return seeds


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch (every device), NumPy and random inside the block; their states return after."""
    seeds = seeds_of(seed)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        # seeds the CPU and every accelerator's generator, also those not started yet
        torch.manual_seed(seeds["torch"])
        np.random.seed(seeds["numpy"])
        random.seed(seeds["random"])
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
