"""cudnn_benchmark: cuDNN tries its convolution algorithms and keeps the fastest per shape."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.batch import Batch
from trainer.part import Refused
from trainer.setup import Setup
from trainer.tricks.base import Claim, Exactness, Stage, Trick

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
TIMED_STEPS = 3
"""Of each shape: the one that is searched in, and two to compare it with."""


class CudnnBenchmark(Trick):
    """Let cuDNN time its convolution algorithms and keep the fastest for each input shape.

    Pays when shapes hardly change. Every new shape is searched anew, also the smaller last batch
    of an epoch: drop it, and all training batches share one shape. Without CUDA the flag is set
    and nothing is searched; the evidence says so.
    """

    title: ClassVar[str] = "cuDNN benchmark"
    stage: ClassVar[Stage] = Stage.PROCESS
    exactness: ClassVar[Exactness] = Exactness.CLOSE
    claim: ClassVar[Claim] = Claim(
        "train_seconds", lower=True, source="PyTorch performance tuning guide"
    )
    clashes: ClassVar[Mapping[str, str]] = {
        "deterministic": "the search times candidates, and the winner differs from run to run"
    }
    helps: ClassVar[tuple[str, ...]] = (
        "Convolutional networks on an NVIDIA GPU whose batches all have one shape.",
        "Long runs: the search is paid back step by step.",
    )
    cost: ClassVar[str] = "A search for each new shape, and more memory while it lasts."
    traps: ClassVar[tuple[str, ...]] = (
        "Each new input shape is searched again: drop the last smaller batch of an epoch.",
        "The search briefly needs more memory.",
        "The winner can differ between processes, and with it the last bits of the result.",
        "No effect on the CPU, or on a network without convolutions.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "torch.backends.cudnn, benchmark_limit, in the PyTorch documentation",
    )
    name: Literal["cudnn_benchmark"] = "cudnn_benchmark"
    limit: int = Field(
        10, ge=0, le=1000, description="How many algorithms to try for a shape; 0 tries all."
    )

    def apply(self, setup: Setup) -> None:
        if not any(isinstance(module, CONVOLUTIONS) for module in setup.model.modules()):
            raise Refused(
                "cudnn_benchmark has nothing to search: this model has no convolution; "
                "switch it off or choose a convolutional model"
            )
        setup.trick_state[self.name] = shapes = ShapesSeen(setup.device)
        setup.change_batch.append(shapes.see)
        setup.after_step.append(shapes.after_step)
        setup.switches.append(lambda: searching(self.limit))

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        shapes = setup.trick_state[self.name]
        assert isinstance(shapes, ShapesSeen)
        searched = setup.device.type == "cuda" and torch.cuda.is_available()
        return {
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "searched": searched,
            "reason": None if searched else f"cuDNN does not run on {setup.device.type}",
            "shapes": {"x".join(map(str, shape)): n for shape, n in shapes.batches.items()},
            "search_seconds": shapes.search_seconds() if searched else None,
        }


class ShapesSeen:
    """How many training batches had each input shape, and what the first of each cost.

    The first step of a shape and the two after it are timed to their end on the device; the others
    never wait for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.batches: Counter[tuple[int, ...]] = Counter()
        self.seconds: dict[tuple[int, ...], list[float]] = {}
        """Of the first steps that began with a batch of a shape; the first has the search in it."""
        self.timed: tuple[tuple[int, ...], float] | None = None

    def see(self, batch: Batch) -> Batch:
        shape = tuple(batch.inputs.shape)
        self.batches[shape] += 1
        if self.timed is None and len(self.seconds.setdefault(shape, [])) < TIMED_STEPS:
            self.timed = shape, self.now()
        return batch

    def after_step(self, setup: Setup, step: int) -> None:
        if self.timed is not None:
            shape, began = self.timed
            self.seconds[shape].append(self.now() - began)
            self.timed = None

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def search_seconds(self) -> dict[str, float]:
        """Of each shape what its first step took longer than the quicker of the next two.

        That is the search, and whatever else is done at first, such as loading kernels.
        """
        return {
            "x".join(map(str, shape)): max(0.0, seconds[0] - min(seconds[1:]))
            for shape, seconds in self.seconds.items()
            if len(seconds) > 1
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "batches": [[list(shape), n] for shape, n in self.batches.items()],
            "seconds": [[list(shape), times] for shape, times in self.seconds.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.batches = Counter({tuple(shape): n for shape, n in state["batches"]})
        # of a run that went on elsewhere since: the search was made anew
        self.seconds = {tuple(shape): times for shape, times in state.get("seconds", ())}


def searching(limit: int) -> Any:
    """cuDNN's search inside the block, the flags as they were after."""
    flags: Callable[..., Any] = torch.backends.cudnn.flags
    return flags(enabled=True, benchmark=True, benchmark_limit=limit, allow_tf32=None)
