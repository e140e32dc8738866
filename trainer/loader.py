"""Loader: how examples become batches, and which choices of it do not go together."""

import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from trainer.part import Part, Refused
from trainer.targets import Kind
from trainer.tasks.base import TaskFacts

Weight = Annotated[float, Field(ge=0, le=1e6)]
Told = tuple[str, str]
"""The field of the loader to blame, and why."""
YES_OR_NO = TypeAdapter(bool)


class Loader(Part):
    """How examples become batches: the options of torch's DataLoader."""

    batch_size: int = Field(64, ge=1, le=65_536, description="Examples per batch.")
    sampler: Literal["shuffled", "sequential", "weighted", "class_balanced"] = Field(
        "shuffled",
        description="The order of an epoch: shuffled is a new one each epoch, sequential always "
        "the stored one. weighted draws with replacement by class_weights, class_balanced so that "
        "all classes come equally often; an epoch stays as long, and leaves examples out.",
    )
    class_weights: tuple[Weight, ...] = Field(
        (),
        max_length=10_000,
        description="For weighted: how readily an example of each class is drawn, in the order of "
        "the classes; 0 leaves a class out.",
    )
    order_seed: int | None = Field(
        None,
        ge=0,
        lt=2**53,
        description="Draw the order from this seed instead of the run's, to vary nothing but the "
        "order.",
    )
    drop_last: bool = Field(
        False, description="Leave out the last batch of an epoch when it is smaller."
    )
    workers: int = Field(
        0, ge=0, le=64, description="Loader processes; 0 loads in the training process."
    )
    prefetch: int = Field(
        2, ge=1, le=64, description="Batches each loader process keeps ready; needs workers."
    )
    persistent_workers: bool = Field(
        True, description="Keep loader processes from epoch to epoch; needs workers."
    )
    pin_memory: bool = Field(
        True, description="Load into page-locked memory, for faster copies to a CUDA device."
    )
    in_order: bool = Field(
        True,
        description="Give batches in their order. Off takes whichever is ready first, so that a "
        "slow one holds up nobody and nothing can be repeated exactly; needs two workers.",
    )
    timeout: float = Field(
        0,
        ge=0,
        le=86_400,
        description="Seconds a batch may take before the run fails; 0 waits as long as it takes. "
        "Needs workers.",
    )
    multiprocessing_context: Literal["", "fork", "spawn", "forkserver"] = Field(
        "",
        description="How loader processes start; empty leaves it to Python. fork is the quickest, "
        "spawn and forkserver share nothing by accident. Needs workers.",
    )

    @model_validator(mode="before")
    @classmethod
    def shuffle_names_a_sampler(cls, given: Any) -> Any:
        """Configs of earlier versions, and torch's DataLoader, say shuffle instead."""
        if not isinstance(given, dict) or "shuffle" not in given:
            return given
        rest = {name: value for name, value in given.items() if name != "shuffle"}
        try:
            sampler = "shuffled" if YES_OR_NO.validate_python(given["shuffle"]) else "sequential"
        except ValidationError as invalid:
            raise ValueError("shuffle is true or false; better, use sampler") from invalid
        if rest.setdefault("sampler", sampler) != sampler:
            raise ValueError(
                f"shuffle={given['shuffle']} means sampler={sampler!r}, and sampler is "
                f"{rest['sampler']!r}; leave shuffle out"
            )
        return rest

    @property
    def shuffle(self) -> bool:
        """What torch calls it."""
        return self.sampler == "shuffled"

    @property
    def draws_by_class(self) -> bool:
        """Whether the order asks which class an example is of."""
        return self.sampler in ("weighted", "class_balanced")

    def batches_of(self, examples: int) -> int:
        """Batches of an epoch."""
        size = self.batch_size
        return examples // size if self.drop_last else -(-examples // size)

    def example_weights(self, targets: torch.Tensor) -> torch.Tensor | None:
        """How readily each example is drawn, by its target (N, …): (N,) float64, or None.

        Raises Refused where examples have no class of their own, or none could be drawn.
        """
        if not self.draws_by_class:
            return None
        if targets.dtype != torch.int64 or targets.dim() != 1:
            raise Refused(self.needs_classes)
        if self.sampler == "class_balanced":
            return 1 / torch.bincount(targets).double()[targets]
        if (most := int(targets.max())) >= len(self.class_weights):
            raise Refused(
                f"class_weights are {len(self.class_weights)}, and there are examples of class "
                f"{most}; write one weight per class"
            )
        weights = torch.tensor(self.class_weights, dtype=torch.float64)[targets]
        if not weights.any():
            raise Refused("no training example is of a class with a weight; raise a class weight")
        return weights

    @property
    def needs_classes(self) -> str:
        return (
            f"{self.sampler} draws by class, and examples of this task are not of one class each; "
            "choose shuffled, or a task that asks for one of several classes"
        )

    def problems(self, task: TaskFacts) -> Iterator[Told]:
        """What would make a run fail, or what torch refuses."""
        if self.drop_last and self.batch_size > task.train_examples:
            yield (
                "batch_size",
                f"a batch of {self.batch_size} is larger than the {task.train_examples} training "
                "examples, and drop_last leaves it out; lower it or switch drop_last off",
            )
        if self.draws_by_class and task.kind is not Kind.CLASSES:
            yield "sampler", self.needs_classes
        elif why := self.wrong_weights(task.classes):
            yield "class_weights", why
        if not self.workers and self.timeout:
            yield (
                "timeout",
                "nobody watches how long a batch takes in the training process itself; set "
                "workers to 1 or more, or timeout to 0",
            )
        if not self.workers and self.multiprocessing_context:
            yield (
                "multiprocessing_context",
                f"{self.multiprocessing_context} starts loader processes, and there are none; set "
                "workers to 1 or more, or leave it empty",
            )

    def wrong_weights(self, classes: tuple[str, ...]) -> str:
        """What is wrong with the weights of these classes; "" where nothing is."""
        weights = self.class_weights
        if self.sampler != "weighted":
            return (
                f"there are class weights, and {self.sampler} draws without them; choose weighted, "
                "or take them away"
                if weights
                else ""
            )
        if len(weights) != len(classes):
            return (
                f"{len(weights)} weights for {len(classes)} classes; write one per class: "
                f"{', '.join(classes)}"
            )
        return "" if any(weights) else "all weights are 0, so nothing would be drawn; raise one"

    def warnings(self, device: str) -> Iterator[str]:
        """What works, but perhaps not as meant, on a device as a config names it."""
        defaults = type(self)()
        idle = [
            name
            for name in ("prefetch", "persistent_workers")
            if getattr(self, name) != getattr(defaults, name)
        ]
        if idle and not self.workers:
            yield (
                f"loader: there are no workers for {' and '.join(idle)} to change anything; set "
                "workers to 1 or more"
            )
        if not self.in_order and self.workers < 2:
            yield (
                "loader: in_order off needs two workers to change anything: batches of one come in "
                "order all the same"
            )
        if not self.in_order and self.workers > 1:
            yield (
                "loader: with in_order off batches train in the order in which they happen to be "
                "ready: the run cannot be repeated exactly, and one resumed within an epoch may "
                "see examples twice and miss others"
            )
        if self.pin_memory and self.workers and device.partition(":")[0] in ("cpu", "mps"):
            yield f"loader: pin_memory does nothing on {device}; only copies to CUDA gain from it"
        if self.workers > (cores := usable_cores()):
            yield (
                f"loader: {self.workers} workers on the {cores} cores of this machine take time "
                f"from each other; {cores} or fewer are enough"
            )


def usable_cores() -> int:
    """The cores this process may use: torch counts them alike."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
