"""Trace: the first steps of a training as hashes of everything that is computed in them."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainer.batch import Batch
from trainer.build import build_setup, choose_device
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.environment import describe
from trainer.loop import Progress, train
from trainer.setup import Setup, StepOutcome
from trainer.tricks import in_order, name_of

Told = Callable[[int], None]
Forward = Callable[[Setup, Batch], torch.Tensor]
Values = npt.NDArray[np.float64]
MOST_CAUGHT = 4_000_000
"""Of a tensor that is caught, so many values are kept: 32 MB."""


class Mark(NamedTuple):
    """One tensor of one step, in the order in which they are computed."""

    phase: str
    """start, data, changed, forward, gradient, weights or loss."""
    name: str
    """The layer with the number of its call, the parameter, or what else it is."""
    digest: str


class Place(NamedTuple):
    """Where a mark stands in a trace."""

    step: int
    """1 is the first; 0 is before it."""
    number: int
    """Of the mark in its step, from 0."""


@dataclass(frozen=True)
class Traced:
    """What the first steps of a training came to."""

    steps: list[list[Mark]]
    """Of step 0 what there was before the first, then of each step."""
    losses: list[float]
    conditions: Mapping[str, Any]
    """Under which it trained: versions, device, threads and switches."""
    caught: Values | None = None
    """The values of the tensor at the place that was asked for."""


class Caught(Exception):
    """The tensor that was wanted has been computed; no more is needed."""


class Trace:
    """Looks on as the loop's watch and hashes what it sees; copies nothing on the CPU."""

    def __init__(self, setup: Setup, steps: int, told: Told, wanted: Place | None = None) -> None:
        self.setup, self.most, self.told, self.wanted = setup, steps, told, wanted
        self.marks: list[Mark] = []
        self.steps: list[list[Mark]] = [self.marks]
        self.losses: list[float] = []
        self.calls: Counter[str] = Counter()
        self.caught: Values | None = None

    def attach(self) -> None:
        """Look at every layer without layers inside it, the batches and the gradients."""
        self.mark_state("start")
        if is_compiled(self.setup.model):
            # a hook would break the graph, and with it what is to be compared
            self.setup.forward = self.seen(self.setup.forward)
        else:
            for path, module in self.setup.model.named_modules():
                if not any(module.children()):
                    module.register_forward_hook(self.hook(path))
        changes = self.setup.change_batch
        if changes:
            changes.append(self.batch_seer("changed"))
        changes.insert(0, self.batch_seer("data"))
        self.setup.change_gradients.append(self.see_gradients)
        self.begin()

    def begin(self) -> None:
        self.marks = []
        self.steps.append(self.marks)
        self.calls.clear()

    def hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            name = f"layer {path} ({type(module).__name__}{self.call(path)})"
            for tensor in tensors_in(output):
                self.mark("forward", name, tensor)

        return see

    def seen(self, forward: Forward) -> Forward:
        def see(setup: Setup, batch: Batch) -> torch.Tensor:
            output = forward(setup, batch)
            self.mark("forward", f"the whole model{self.call('the model')}", output)
            return output

        return see

    def batch_seer(self, phase: str) -> Callable[[Batch], Batch]:
        def see(batch: Batch) -> Batch:
            call = self.call(phase)
            self.mark(phase, f"inputs{call}", batch.inputs)
            self.mark(phase, f"targets{call}", batch.targets)
            return batch

        return see

    def call(self, of: str) -> str:
        """What to add to a name that comes more than once in a step."""
        self.calls[of] += 1
        return f", call {self.calls[of]}" if self.calls[of] > 1 else ""

    def see_gradients(self, setup: Setup) -> None:
        for name, parameter in setup.model.named_parameters():
            if parameter.grad is not None:
                self.mark("gradient", name, parameter.grad)

    def mark(self, phase: str, name: str, tensor: torch.Tensor) -> None:
        if self.wanted == (len(self.steps) - 1, len(self.marks)):
            values = tensor.detach().flatten()[:MOST_CAUGHT]
            self.caught = values.cpu().double().numpy()
            raise Caught
        self.marks.append(Mark(phase, name, digest(tensor)))

    def mark_state(self, phase: str) -> None:
        for name, tensor in self.setup.model.state_dict().items():
            self.mark(phase, name, tensor)

    # -- called by the loop -----------------------------------------------------------------

    def lap(self, activity: str) -> None:
        """Time is of no interest here."""

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        self.mark_state("weights")
        self.mark("loss", "training loss", outcome.loss)
        self.losses.append(float(outcome.loss))
        self.told(progress.step)
        if progress.step >= self.most:
            return True
        self.begin()
        return False

    def after_epoch(self, progress: Progress) -> bool:
        return False


def digest(tensor: torch.Tensor) -> str:
    """A hash of a tensor's bits, in the order of its elements."""
    content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
    return hashlib.blake2b(content.numpy().data, digest_size=8).hexdigest()


def tensors_in(output: Any) -> Iterator[torch.Tensor]:
    """The tensors that a layer gives, alone or in tuples, lists and mappings."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for each in output:
            yield from tensors_in(each)
    elif isinstance(output, Mapping):
        yield from tensors_in(list(output.values()))


def is_compiled(model: nn.Module) -> bool:
    """Whether torch compiles this model or a part of it."""
    return any(module._compiled_call_impl is not None for module in model.modules())


def trace(
    config: RunConfig,
    folders: DataFolders,
    device: str,
    steps: int,
    told: Told = lambda step: None,
    wanted: Place | None = None,
) -> Traced:
    """Train the first steps of a config as a run would, and hash all of it.

    Ends at a tensor that is wanted, with its values. Seeds and switches are those of the process:
    it should be a fresh one.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    chosen = choose_device(device)
    setup = build_setup(config, config.task.load(folders), chosen, folders.sources)
    for trick in in_order(config.tricks):
        trick.apply(setup)
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        setup.place()
        setup.start_fresh()
        watch = Trace(setup, min(steps, setup.total_steps), told, wanted)
        try:
            watch.attach()
            train(setup, Progress(), watch)
        except Caught:
            pass
        return Traced(watch.steps, watch.losses, conditions(config, chosen), watch.caught)


def conditions(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """What a result to the bit depends on beside the config, as it is in this process."""
    return describe(device) | {
        "tricks": [name_of(type(trick)) for trick in config.tricks],
        "seed": config.seed,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "python_hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
    }
