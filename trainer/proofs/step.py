"""Step: the first optimizer step of a config, with all that it computed kept."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from trainer.batch import Batch
from trainer.batches import EpochOrder
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.loop import set_learning_rate
from trainer.setup import Setup
from trainer.sources import Sources
from trainer.streams import process_stream
from trainer.tasks import TaskData
from trainer.tricks import in_order


@dataclass(frozen=True)
class Ground:
    """What both steps of a comparison stand on."""

    data: TaskData
    device: torch.device
    sources: Sources | None = None


class Manner(NamedTuple):
    """How a step is taken: its batches, and what is set aside to see what the rest does."""

    sizes: tuple[int, ...]
    """Examples of each batch."""
    dtype: torch.dtype
    in_eval: bool
    """Whether batch norm and dropout behave as when evaluating."""


@dataclass(frozen=True)
class StepTaken:
    """What one optimizer step was and did; tensors by the names of the parameters."""

    loss: float
    gradients: Mapping[str, torch.Tensor]
    """As the optimizer gets them."""
    updates: Mapping[str, torch.Tensor]
    multiplier: float
    """Of the learning rate."""
    statistics: Mapping[str, torch.Tensor]
    """The buffers afterwards, such as the running statistics of batch norm."""


def made_ready(config: RunConfig, ground: Ground) -> Setup:
    """A setup with its tricks applied; not placed yet."""
    setup = build_setup(config, ground.data, ground.device, ground.sources)
    for trick in in_order(config.tricks):
        trick.apply(setup)
    return setup


def depends_on_batch(module: nn.Module) -> bool:
    """Whether, in training, it matters to this layer how examples are put into batches."""
    drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    return drops or isinstance(module, nn.modules.batchnorm._BatchNorm)


def take_step(config: RunConfig, ground: Ground, manner: Manner) -> StepTaken:
    """The first step of a config, on the first examples of an epoch."""
    setup = made_ready(config, ground)
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        # dropout draws from the process's generator: the same numbers with the trick and without
        switches.enter_context(process_stream(config.seed, "proof"))
        setup.model.to(manner.dtype)
        setup.place()
        setup.start_fresh()
        prepare = setup.prepare
        setup.prepare = lambda batch: as_type(prepare(batch), manner.dtype)
        setup.model.train()
        if manner.in_eval:
            for module in setup.model.modules():
                if depends_on_batch(module):
                    module.eval()
        return stepped(setup, window_of(config, ground.data, manner.sizes))


def as_type(batch: Batch, dtype: torch.dtype) -> Batch:
    targets = batch.targets
    if targets.is_floating_point():
        targets = targets.to(dtype)
    return batch._replace(inputs=batch.inputs.to(dtype), targets=targets)


def window_of(
    config: RunConfig, data: TaskData, sizes: Sequence[int], first: int = 0
) -> tuple[Batch, ...]:
    """Examples of the first epoch, from this one on, in batches of these sizes."""
    order = EpochOrder(config.loader, data.train.targets, config.seed).order
    return tuple(
        Batch(data.train.inputs[members], data.train.targets[members], members, 0)
        for members in torch.split(order[first : first + sum(sizes)], list(sizes))
    )


def stepped(setup: Setup, window: tuple[Batch, ...]) -> StepTaken:
    """Take one optimizer step of a placed setup, as the loop does."""
    parameters = dict(setup.model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    multiplier = set_learning_rate(setup, 0, None)
    outcome = setup.backward(setup, window)
    for change in setup.change_gradients:
        change(setup)
    gradients = {
        name: parameter.grad.detach().clone()
        for name, parameter in parameters.items()
        if parameter.grad is not None
    }
    setup.optimizer.step()
    setup.optimizer.zero_grad(set_to_none=True)
    for after in setup.after_step:
        after(setup, 1)
    return StepTaken(
        loss=float(outcome.loss),
        gradients=gradients,
        updates={name: parameters[name].detach() - before[name] for name in parameters},
        multiplier=multiplier,
        statistics={
            name: buffer.detach().clone()
            for name, buffer in setup.model.named_buffers()
            if buffer.is_floating_point()
        },
    )
