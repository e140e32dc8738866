"""Setup: the live objects one run trains with, in named slots that tricks edit once."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from trainer.batch import Batch
from trainer.part import Refused
from trainer.sources import Trained
from trainer.targets import Kind, Targets

JSON = Mapping[str, Any]
KEPT_SCORES = 16_384
"""A step's scores are kept as they are up to this many: 64 KB."""


class StepOutcome(NamedTuple):
    """What one optimizer step saw. Tensors stay on the device; nobody reads them per step."""

    loss: torch.Tensor
    """The undivided loss over the step's examples, a detached scalar."""
    examples: int
    hits: "Hits | None"
    """None where no answer is right or wrong."""


class Hits(NamedTuple):
    """What was predicted and what was right, to be compared when there is time: a step has none."""

    outputs: tuple[torch.Tensor, ...]
    """Of each batch the scores (N, C, …), or what they say where the scores take much room."""
    targets: tuple[torch.Tensor, ...]
    """As `kind` has them, (N, …)."""
    kind: Kind
    ignored: int | None = None
    """The class number of targets that do not count."""


class Criterion(Protocol):
    """What a setup needs of a loss; `trainer.losses.Criterion` is one."""

    def value(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor: ...
    def total(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor: ...
    def averaged_over(self, output: torch.Tensor, target: torch.Tensor) -> float | torch.Tensor: ...
    def divisor(self, averaged_over: float | torch.Tensor) -> float | torch.Tensor: ...


class TrickState(Protocol):
    """What a trick remembers while training; saved in every checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class Setup:
    """Slots with one owner are replaced, slots that are lists are appended to."""

    model: nn.Module
    criterion: Criterion
    device: torch.device
    seed: int
    epochs: int
    batch_size: int
    batches_per_epoch: int
    train_examples: int
    drops_last: bool
    input_shape: tuple[int, ...]
    """Of one input as the model sees it, without the batch: (C, H, W) for images."""
    evaluation_batch: int
    """Examples of a batch while evaluating; halved when they do not fit into the memory."""
    targets: Targets
    """What is asked of each example, for whoever holds predictions against it."""

    # one owner each
    batches: Callable[["Setup", int, int], Iterator[Batch]]
    """(setup, epoch, first batch) -> the batches from there to the end of the epoch."""
    make_optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    lr_multiplier: Callable[[int, int], float]
    """(step, total steps) -> what the learning rate is multiplied by."""
    prepare: Callable[[Batch], Batch]
    """Stored inputs to model inputs, on the device; each example by itself, nothing random."""
    forward: Callable[["Setup", Batch], torch.Tensor] = field(
        default=lambda setup, batch: setup.model(batch.inputs)
    )
    backward: Callable[["Setup", Sequence[Batch]], StepOutcome] = field(
        default=lambda setup, window: plain_backward(setup, window)
    )
    batches_per_step: int = 1
    """How many loader batches one optimizer step takes; the last step of an epoch may get fewer."""
    evaluated_model: Callable[["Setup"], nn.Module] = field(default=lambda setup: setup.model)
    trained: Callable[[str], Trained] = lambda reference: no_other_run(reference)
    """What another run has learned, by its number, its name, or recipe:NAME."""
    lap: Callable[[str], None] = lambda activity: None
    """Told of an activity when it is over; the loop sets it to its watch's."""

    # many each, in the order of the catalogue
    initialise: list[Callable[["Setup"], None]] = field(default_factory=list)
    """Called once in the life of a run, placed and before its first step; not on resuming."""
    change_batch: list[Callable[[Batch], Batch]] = field(default_factory=list)
    change_gradients: list[Callable[["Setup"], None]] = field(default_factory=list)
    parameter_rules: list[Callable[[str, nn.Parameter], Mapping[str, Any]]] = field(
        default_factory=list
    )
    """(name, parameter) -> the optimizer options in which it differs from the others; `lr_factor`
    is what its learning rate is multiplied by."""
    learns_later: set[str] = field(default_factory=set)
    """Names of the parameters that do not learn yet: the optimizer gets them while training."""
    after_step: list[Callable[["Setup", int], None]] = field(default_factory=list)
    on_epoch: list[Callable[["Setup", int], None]] = field(default_factory=list)
    switches: list[Callable[[], AbstractContextManager[object]]] = field(default_factory=list)
    """Process-wide switches, entered before the model goes to the device and left after the run."""
    trick_state: MutableMapping[str, TrickState] = field(default_factory=dict)

    optimizer: torch.optim.Optimizer = field(init=False)
    learning_rate: float = field(init=False, default=0.0)
    """Of this step, as the config and the schedule have it: without any parameter's `lr_factor`."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; a short last window is a step too."""
        return -(-self.batches_per_epoch // self.batches_per_step)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def place(self) -> None:
        """Move the model to the device and make the optimizer; call once, after all tricks."""
        self.model.to(self.device)
        trainable = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        self.optimizer = self.make_optimizer(self.parameter_groups(trainable))
        self.learning_rate = self.optimizer.defaults["lr"]
        for group in self.optimizer.param_groups:
            group["peak_lr"] = group["lr"] * group.get("lr_factor", 1.0)

    def train_also(self, named: Sequence[tuple[str, nn.Parameter]], step: int) -> None:
        """Give the optimizer more parameters after this step; what it knows of others stays."""
        multiplier = self.lr_multiplier(step, self.total_steps)
        for group in self.parameter_groups(named):
            self.optimizer.add_param_group(group)
            added = self.optimizer.param_groups[-1]
            added["peak_lr"] = self.optimizer.defaults["lr"] * group.get("lr_factor", 1.0)
            # the loop writes rates only when the multiplier changes
            added["lr"] = added["peak_lr"] * multiplier

    def start_fresh(self) -> None:
        """Let the tricks initialise a placed setup that no checkpoint is loaded into."""
        for initialise in self.initialise:
            initialise(self)

    def parameter_groups(self, named: Sequence[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Parameters with their names, grouped by the options that the rules give them."""
        groups: dict[tuple[tuple[str, Any], ...], list[nn.Parameter]] = {}
        for name, parameter in named:
            options: dict[str, Any] = {}
            for rule in self.parameter_rules:
                options |= rule(name, parameter)
            groups.setdefault(tuple(sorted(options.items())), []).append(parameter)
        return [{"params": members, **dict(options)} for options, members in groups.items()]

    def ready(self, batch: Batch) -> Batch:
        """A batch as the model takes it: on the device, normalised, changed by the tricks."""
        if not batch.is_prepared:
            batch = self.prepare(batch.to(self.device))
        for change in self.change_batch:
            batch = change(batch)
        return batch

    def kept(self, output: torch.Tensor) -> torch.Tensor:
        """What is kept of scores until somebody counts hits: finding the highest takes a while."""
        scores = output.detach()
        return scores if scores.numel() <= KEPT_SCORES else self.targets.kind.predicted(scores)

    def outcome(
        self,
        loss: torch.Tensor,
        outputs: tuple[torch.Tensor, ...],
        targets: tuple[torch.Tensor, ...],
    ) -> StepOutcome:
        """What a step saw, given its loss and of each batch what is `kept` and its targets."""
        kind, hits = self.targets.kind, None
        if kind.has_classes:
            hits = Hits(outputs, targets, kind, self.targets.ignored)
        return StepOutcome(loss.detach(), sum(map(len, targets)), hits)


def no_other_run(reference: str) -> Trained:
    raise Refused(f"no other runs can be found from here, {reference!r} neither; train in a lab")


def plain_backward(setup: Setup, window: Sequence[Batch]) -> StepOutcome:
    """Forward and backward of a step that takes one batch; leaves the gradients in `.grad`."""
    (batch,) = window
    batch = setup.ready(batch)
    setup.lap("copy")
    output = setup.forward(setup, batch)
    loss = setup.criterion.value(output, batch.targets)
    kept = setup.kept(output)
    setup.lap("forward")
    loss.backward()  # type: ignore[no-untyped-call]
    setup.lap("backward")
    return setup.outcome(loss, (kept,), (batch.targets,))
