"""Advice: what helps where two trainings of one config differ."""

from collections.abc import Mapping
from typing import Any

from trainer.config import RunConfig
from trainer.proofs.trace import Mark
from trainer.tricks import CudnnBenchmark, Deterministic, Seed

SWITCH_ON_SEED = (
    "Switch on the seed trick: the process's generators start somewhere new in every run"
)


def advice(config: RunConfig, mark: Mark, conditions: Mapping[str, Any]) -> str:
    """What helps, where this is the first tensor that differs."""
    chosen = {type(trick) for trick in config.tricks}
    is_seeded = Seed in chosen
    if mark.phase in ("start", "data"):
        return (
            "Initial weights and batches follow from the seed alone, unless code of your own draws "
            f"from a generator that nobody seeds. {'' if is_seeded else SWITCH_ON_SEED + '.'}"
        ).strip()
    if mark.phase == "changed":
        return (
            "Whatever changes examples by chance has to draw from the seed, the epoch and the "
            "example alone, as the tricks of the catalogue do (sample_draws in trainer/streams.py)."
        )
    if not is_seeded:
        drops = "dropout draws" if "Dropout" in mark.name else "it may draw random numbers"
        return f"{SWITCH_ON_SEED}, and {drops} from them."
    if CudnnBenchmark in chosen and str(conditions.get("device")).startswith("cuda"):
        return (
            "Switch off cudnn_benchmark: the algorithm that wins its search differs from process "
            "to process."
        )
    if Deterministic not in chosen:
        return (
            "Switch on the deterministic trick: an operation adds numbers up in whatever order "
            "they come."
        )
    return (
        "Seeds and deterministic algorithms are on, so this does something that torch does not "
        "know of: time, threads, the order of a set, or a generator of its own."
    )
