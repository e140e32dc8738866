"""Equivalence: one optimizer step with and without a trick, compared tensor by tensor."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainer.batch import Batch
from trainer.batches import EpochOrder
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.loop import set_learning_rate
from trainer.schedules import Constant
from trainer.setup import Setup
from trainer.sources import Sources
from trainer.streams import process_stream
from trainer.tasks import TaskData
from trainer.tricks import Exactness, Trick, in_order, name_of

TOLERANCES = {Exactness.EXACT: 1e-12, Exactness.CLOSE: 1e-4}
"""Largest relative error of the gradient: of an exact trick in double precision, where rounding
cannot hide a wrong factor; of a close one in single precision, as it trains."""
DEPENDS_ON_BATCH = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
"""Layers in training mode whose outputs depend on how examples are put into batches."""


@dataclass(frozen=True)
class StepTaken:
    """What one optimizer step was and did; tensors by the names of the parameters."""

    loss: float
    gradients: Mapping[str, torch.Tensor]
    updates: Mapping[str, torch.Tensor]
    statistics: Mapping[str, torch.Tensor]
    """The buffers afterwards, such as the running statistics of batch norm."""


@dataclass(frozen=True)
class Comparison:
    """How far a step with a trick is from one without. Errors are relative."""

    precision: str
    """float32 or float64."""
    sizes: tuple[int, ...]
    """Examples of the batches with the trick; without it they are one, unless it takes as many."""
    in_eval: bool
    """Whether batch norm and dropout behaved as when evaluating."""
    loss: float
    gradient: float
    cosine: float
    update: float
    statistics: float
    layers: Mapping[str, tuple[float, float]]
    """Of each parameter the errors of its gradient and of its update."""
    without_gradient: tuple[str, ...]
    """Parameters that get a gradient in one of the two steps only."""


@dataclass(frozen=True)
class Proof:
    """What a trick claims of one step, what was measured, and whether that holds."""

    trick: str
    exactness: Exactness
    comparisons: tuple[Comparison, ...]
    judged: Comparison
    """The one that the claim is held against."""
    holds: bool | None
    """None where the trick is meant to change what is learned."""
    note: str

    def told(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "trick": self.trick,
            "exactness": self.exactness.value,
            "tolerance": TOLERANCES.get(self.exactness),
            "error": self.judged.gradient,
            "holds": self.holds,
            "note": self.note,
            "judged": dict(self.judged.layers),
            "comparisons": [vars(one) | {"layers": dict(one.layers)} for one in self.comparisons],
        }


@dataclass(frozen=True)
class Ground:
    """What both steps of a comparison stand on."""

    data: TaskData
    device: torch.device
    sources: Sources | None = None


def prove(config: RunConfig, trick: Trick, ground: Ground) -> Proof:
    """Take one step of a config with a trick and without it, in both precisions.

    Both start from the same weights and see the same examples: a trick that takes several batches
    for a step is compared with one large batch, a short last window included. Raises Refused where
    the trick finds nothing to change, and ValidationError where it clashes with another.
    """
    name = name_of(type(trick))
    others = [one for one in config.tricks if one.name != name]
    plain = changed(config, others)
    tricked = changed(config, in_order([*others, trick]))
    comparisons = tuple(compared(plain, tricked, ground))
    return judge(name, trick.exactness, comparisons)


def changed(config: RunConfig, tricks: Sequence[Trick]) -> RunConfig:
    """The config with other tricks, validated anew, and at one learning rate.

    Schedules count steps, of which a trick may make fewer: their first rate would differ.
    """
    return RunConfig.model_validate(
        {**dict(config), "schedule": Constant(), "tricks": tuple(tricks)}
    )


def compared(plain: RunConfig, tricked: RunConfig, ground: Ground) -> Iterator[Comparison]:
    batches = made_ready(tricked, ground).batches_per_step
    size = min(tricked.loader.batch_size, max(2, len(ground.data.train) // batches))
    windows = [(size,) * batches]
    if batches > 1:
        # the last window of an epoch: a batch fewer, and a smaller last one
        windows.append((size,) * max(batches - 2, 1) + (size // 2 + 1,))
    # where both take as many batches for a step, both get the same ones
    same = made_ready(plain, ground).batches_per_step == batches
    precisions = [torch.float32] if ground.device.type == "mps" else [torch.float32, torch.float64]
    for sizes in windows:
        for dtype in precisions:
            for in_eval in (False, True) if depends_on_batches(tricked, ground) else (False,):
                one = take_step(tricked, ground, sizes, dtype, in_eval)
                other = take_step(plain, ground, sizes if same else (sum(sizes),), dtype, in_eval)
                yield comparison(one, other, sizes, dtype, in_eval)


def depends_on_batches(config: RunConfig, ground: Ground) -> bool:
    modules = made_ready(config, ground).model.modules()
    return any(isinstance(module, DEPENDS_ON_BATCH) for module in modules)


def made_ready(config: RunConfig, ground: Ground) -> Setup:
    """A setup with its tricks applied; not placed yet."""
    setup = build_setup(config, ground.data, ground.device, ground.sources)
    for trick in in_order(config.tricks):
        trick.apply(setup)
    return setup


def take_step(
    config: RunConfig,
    ground: Ground,
    sizes: tuple[int, ...],
    dtype: torch.dtype,
    in_eval: bool,
) -> StepTaken:
    """The first step of a config, on the first examples of an epoch in batches of `sizes`."""
    setup = made_ready(config, ground)
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        # dropout draws from the process's generator: the same numbers with the trick and without
        switches.enter_context(process_stream(config.seed, "proof"))
        setup.model.to(dtype)
        setup.place()
        setup.start_fresh()
        prepare = setup.prepare
        setup.prepare = lambda batch: as_type(prepare(batch), dtype)
        window = window_of(config, ground.data, sizes)
        set_learning_rate(setup, 0, None)
        setup.model.train()
        if in_eval:
            for module in setup.model.modules():
                if isinstance(module, DEPENDS_ON_BATCH):
                    module.eval()
        return stepped(setup, window)


def as_type(batch: Batch, dtype: torch.dtype) -> Batch:
    targets = batch.targets
    if targets.is_floating_point():
        targets = targets.to(dtype)
    return batch._replace(inputs=batch.inputs.to(dtype), targets=targets)


def window_of(config: RunConfig, data: TaskData, sizes: Sequence[int]) -> tuple[Batch, ...]:
    """The first examples of the first epoch, in batches of these sizes."""
    order = EpochOrder(config.loader, data.train.targets, config.seed).order[: sum(sizes)]
    return tuple(
        Batch(data.train.inputs[members], data.train.targets[members], members, 0)
        for members in torch.split(order, list(sizes))
    )


def stepped(setup: Setup, window: tuple[Batch, ...]) -> StepTaken:
    """Take one optimizer step of a placed setup."""
    parameters = dict(setup.model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    outcome = setup.backward(setup, window)
    gradients = {
        name: parameter.grad.detach().clone()
        for name, parameter in parameters.items()
        if parameter.grad is not None
    }
    for change in setup.change_gradients:
        change(setup)
    setup.optimizer.step()
    updates = {name: parameters[name].detach() - before[name] for name in parameters}
    statistics = {
        name: buffer.detach().clone()
        for name, buffer in setup.model.named_buffers()
        if buffer.is_floating_point()
    }
    return StepTaken(float(outcome.loss), gradients, updates, statistics)


def comparison(
    one: StepTaken, other: StepTaken, sizes: tuple[int, ...], dtype: torch.dtype, in_eval: bool
) -> Comparison:
    shared = [name for name in other.gradients if name in one.gradients]
    first, second = joined(one.gradients, shared), joined(other.gradients, shared)
    moved = list(other.updates)
    return Comparison(
        precision=str(dtype).removeprefix("torch."),
        sizes=sizes,
        in_eval=in_eval,
        loss=relative(abs(one.loss - other.loss), abs(other.loss)),
        gradient=error(first, second),
        cosine=float(nn.functional.cosine_similarity(first, second, dim=0)),
        update=error(joined(one.updates, moved), joined(other.updates, moved)),
        statistics=error(
            joined(one.statistics, list(other.statistics)),
            joined(other.statistics, list(other.statistics)),
        ),
        layers={
            name: (
                error(one.gradients[name], other.gradients[name]),
                error(one.updates[name], other.updates[name]),
            )
            for name in shared
        },
        without_gradient=tuple(sorted(one.gradients.keys() ^ other.gradients.keys())),
    )


def joined(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> torch.Tensor:
    parts = [tensors[name].double().cpu().flatten() for name in names]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    """|one - other| / |other|, in double precision."""
    one, other = one.double(), other.double()
    return relative(float((one - other).norm()), float(other.norm()))


def relative(difference: float, size: float) -> float:
    if difference == 0:
        return 0.0
    return difference / size if size else math.inf


def judge(name: str, exactness: Exactness, comparisons: tuple[Comparison, ...]) -> Proof:
    """Hold what was measured against what the trick claims."""
    precision = "float64" if exactness is Exactness.EXACT else "float32"
    fitting = [one for one in comparisons if one.precision == precision] or list(comparisons)
    as_trained = worst([one for one in fitting if not one.in_eval])
    if exactness is Exactness.DIFFERENT:
        note = "meant to change what is learned"
        return Proof(name, exactness, comparisons, as_trained, None, note)
    most = TOLERANCES[exactness]
    if as_trained.gradient <= most:
        return Proof(name, exactness, comparisons, as_trained, True, "")
    in_eval = [one for one in fitting if one.in_eval]
    if in_eval and worst(in_eval).gradient <= most:
        note = (
            f"batch norm and dropout work on each batch by itself, so the gradient of the same "
            f"examples in batches of {as_trained.sizes[0]} differs by {as_trained.gradient:.2g}; "
            "without their doing it is the same"
        )
        return Proof(name, exactness, comparisons, worst(in_eval), True, note)
    note = f"the gradient differs by {as_trained.gradient:.2g} where at most {most:g} is claimed"
    return Proof(name, exactness, comparisons, as_trained, False, note)


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    return max(comparisons, key=lambda one: (math.isnan(one.gradient), one.gradient))
