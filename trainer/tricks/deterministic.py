"""deterministic: only operations that give the same bits every time."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.part import Refused
from trainer.setup import Setup
from trainer.targets import Kind
from trainer.tricks.base import Claim, Exactness, Stage, Trick

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


class Deterministic(Trick):
    """Use only operations that give the same bits every time.

    Asks torch for deterministic algorithms, cuDNN for deterministic convolutions chosen without
    a search, and cuBLAS for a fixed workspace. An operation that has no deterministic form stops
    the run with its name, or only warns where you say so.
    """

    title: ClassVar[str] = "Deterministic"
    stage: ClassVar[Stage] = Stage.PROCESS
    exactness: ClassVar[Exactness] = Exactness.CLOSE
    claim: ClassVar[Claim] = Claim(
        "reproducibility", lower=False, source="PyTorch documentation, Reproducibility"
    )
    clashes: ClassVar[Mapping[str, str]] = {
        "cudnn_benchmark": "the search times candidates, and the winner differs from run to run"
    }
    helps: ClassVar[tuple[str, ...]] = (
        "Where two runs must agree to the bit: to find out whether a change changes nothing, "
        "or where a run goes wrong.",
    )
    cost: ClassVar[str] = "Some operations are slower, some are refused."
    traps: ClassVar[tuple[str, ...]] = (
        "It makes operations repeatable, not random numbers; add the seed trick.",
        "On CUDA, average pooling in 3-d, adaptive pooling, interpolation and CTC loss have no "
        "deterministic backward, nor has MaxPool3d before torch 2.13.",
        "Deterministic algorithms can be slower.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "torch.use_deterministic_algorithms, the list in its documentation",
        "cuBLAS documentation, Results reproducibility",
    )
    name: Literal["deterministic"] = "deterministic"
    warn_only: bool = Field(
        False,
        description="Warn at an operation that has no deterministic form, instead of stopping.",
    )

    def apply(self, setup: Setup) -> None:
        if setup.device.type == "cuda" and not self.warn_only:
            must_have_deterministic_forms(setup)
        setup.trick_state[self.name] = warned = Warned()
        setup.switches.append(lambda: deterministic(self.warn_only, warned))

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        warned = setup.trick_state[self.name]
        assert isinstance(warned, Warned)
        return {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            CUBLAS.lower(): os.environ.get(CUBLAS),
            "operations_without_deterministic_form": sorted(warned.operations),
        }


NO_DETERMINISTIC_BACKWARD: Mapping[str, tuple[int, int] | None] = {
    "MaxPool3d": (2, 13),
    "AvgPool3d": None,
    "AdaptiveAvgPool2d": None,
    "AdaptiveAvgPool3d": None,
    "AdaptiveMaxPool2d": None,
    "FractionalMaxPool2d": None,
    "FractionalMaxPool3d": None,
    "MaxUnpool1d": None,
    "MaxUnpool2d": None,
    "MaxUnpool3d": None,
    "ReflectionPad1d": None,
    "ReflectionPad2d": None,
    "ReflectionPad3d": None,
    "CTCLoss": None,
}
"""Layers whose CUDA backward adds up in any order, and the torch version that mended it, if any.

From the documentation of torch.use_deterministic_algorithms, 2.11 to 2.13.
"""


def must_have_deterministic_forms(setup: Setup) -> None:
    """Refuses, before the first step, what would stop the run in its middle on CUDA."""
    named = without_deterministic_form(setup.model, torch.__version__)
    if setup.targets.kind is Kind.PIXELS:
        named.append("the loss over pixels (NLLLoss)")
    if named:
        raise Refused(
            f"on CUDA, torch {torch.__version__} has no deterministic form of {', '.join(named)}; "
            "switch warn_only on, or replace them (a mean over height and width does what global "
            "average pooling does)"
        )


def without_deterministic_form(model: nn.Module, version: str) -> list[str]:
    """The layers of a model, with their kind, that have no deterministic backward on CUDA."""
    major, minor = (int(part) for part in version.split(".")[:2])
    found = []
    for path, module in model.named_modules():
        kind = type(module).__name__
        since = NO_DETERMINISTIC_BACKWARD.get(kind, (0, 0))
        if since is None or (major, minor) < since:
            found.append(f"{path} ({kind})")
    return found


class Warned:
    """The operations torch warned about."""

    def __init__(self) -> None:
        self.operations: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        return {"operations": sorted(self.operations)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.operations |= set(state["operations"])


@contextmanager
def deterministic(warn_only: bool, warned: Warned) -> Iterator[None]:
    """Switch determinism on inside the block and put everything back after."""
    algorithms = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(CUBLAS)
    # read by cuBLAS when CUDA starts, which is after this block is entered
    os.environ[CUBLAS] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        with (
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=None
            ),
            noticing(warned),
        ):
            yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=only_warned)
        if workspace is None:
            del os.environ[CUBLAS]
        else:
            os.environ[CUBLAS] = workspace


@contextmanager
def noticing(warned: Warned) -> Iterator[None]:
    """Keep the names in torch's warnings about operations without a deterministic form."""
    show = warnings.showwarning

    def notice(message: Warning | str, *rest: Any, **more: Any) -> None:
        text = str(message)
        if "does not have a deterministic implementation" in text:
            warned.operations.add(text.split()[0])
        show(message, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = notice
        yield
