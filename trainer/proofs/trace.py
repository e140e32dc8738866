"""Trace: the first steps of a training as hashes of everything that is computed in them."""

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn

from trainer.batch import Batch
from trainer.build import build_setup, choose_device
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.loop import Progress, train
from trainer.setup import Setup, StepOutcome
from trainer.tricks import in_order

Told = Callable[[int], None]


class Mark(NamedTuple):
    """One tensor of one step, in the order in which they are computed."""

    phase: str
    """start, data, forward, gradient, weights or loss."""
    name: str
    """The layer with the number of its call, the parameter, or what else it is."""
    digest: str
    size: float
    """Its norm, to tell how far two of them are apart."""


class Trace:
    """What the first steps of a training came to; looks on as the loop's watch."""

    def __init__(self, setup: Setup, steps: int, told: Told) -> None:
        self.setup, self.most, self.told = setup, steps, told
        self.marks: list[Mark] = []
        self.steps: list[list[Mark]] = [self.marks]
        """Of step 0 what there was before the first, then of each step."""
        self.calls: Counter[str] = Counter()

    def attach(self) -> None:
        """Look at every layer without layers inside it, the batches and the gradients."""
        self.mark_state("start")
        for path, module in self.setup.model.named_modules():
            if not any(module.children()):
                module.register_forward_hook(self.hook(path))
        self.setup.change_batch.append(self.see_batch)
        self.setup.change_gradients.append(self.see_gradients)
        self.begin()

    def begin(self) -> None:
        self.marks = []
        self.steps.append(self.marks)
        self.calls.clear()

    def hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            if module.training and isinstance(output, torch.Tensor):
                self.calls[path] += 1
                call = self.calls[path]
                repeated = f", call {call}" if call > 1 else ""
                self.mark("forward", f"{path} ({type(module).__name__}{repeated})", output)

        return see

    def see_batch(self, batch: Batch) -> Batch:
        self.mark("data", "inputs", batch.inputs)
        self.mark("data", "targets", batch.targets)
        return batch

    def see_gradients(self, setup: Setup) -> None:
        for name, parameter in setup.model.named_parameters():
            if parameter.grad is not None:
                self.mark("gradient", name, parameter.grad)

    def mark(self, phase: str, name: str, tensor: torch.Tensor) -> None:
        held = tensor.detach().contiguous().cpu()
        content = held.flatten().view(torch.uint8).numpy()
        digest = hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()
        self.marks.append(Mark(phase, name, digest, float(held.double().norm())))

    def mark_state(self, phase: str) -> None:
        for name, tensor in self.setup.model.state_dict().items():
            self.mark(phase, name, tensor)

    # -- called by the loop -----------------------------------------------------------------

    def lap(self, activity: str) -> None:
        """Time is of no interest here."""

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        self.mark_state("weights")
        self.mark("loss", "training loss", outcome.loss)
        self.told(progress.step)
        if progress.step >= self.most:
            return True
        self.begin()
        return False

    def after_epoch(self, progress: Progress) -> bool:
        return False


def trace(
    config: RunConfig, folders: DataFolders, device: str, steps: int, told: Told = lambda step: None
) -> list[list[Mark]]:
    """Train the first steps of a config as a run would, and hash all of it.

    Seeds and switches are those of the process: it should be a fresh one.
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
        watch = Trace(setup, min(steps, setup.total_steps), told)
        watch.attach()
        train(setup, Progress(), watch)
    return watch.steps
