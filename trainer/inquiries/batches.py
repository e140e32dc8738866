"""batches: the first batches of an epoch, as training gets them, with the order they come in."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.batch import Batch
from trainer.batches import EpochOrder, is_resident
from trainer.build import build_setup
from trainer.inquiries.batch_picture import batch_pictures
from trainer.inquiries.loader_sweep import without_warnings
from trainer.inquiry import AboutConfig, Bench
from trainer.setup import Setup
from trainer.targets import Kind
from trainer.tasks import Examples, TaskData, TaskFacts
from trainer.threads import threads
from trainer.tricks import in_order

MOST_PICTURES = 64
MOST_LISTED = 512
"""Examples of one batch whose numbers and labels are told."""
MOST_ORDER = 2000
"""Examples of the epoch's order that are told."""


class Batches(AboutConfig):
    """The first batches of an epoch, by the very code that trains: pictures, labels, order.

    Examples come in the epoch's order, resident or loaded, are made ready for the model, and
    are changed by the tricks that change batches; each picture is shown before and after. With
    them come the sampler's order, how often each class comes, and what each batch took.
    Nothing is trained.
    """

    title: ClassVar[str] = "First batches"
    name: Literal["batches"] = "batches"
    epoch: int = Field(0, ge=0, le=1_000_000, description="Which epoch of training, from 0.")
    batches: int = Field(
        4, ge=1, le=16, description="How many batches are taken from its beginning."
    )

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        bench.tell(0.0, "reading the data")
        data = self.config.task.load(bench.data)
        facts = self.config.task.facts()
        bench.tell(0.3, "building the setup")
        setup = build_setup(self.config, data, bench.device, bench.data.sources)
        for trick in in_order(self.config.tricks):
            trick.apply(setup)
        with ExitStack() as entered:
            for block in (threads(self.config.threads), without_warnings()):
                entered.enter_context(block)
            for switch in setup.switches:
                entered.enter_context(switch())
            taken = list(self.taken(setup, bench))
            told = [
                self.told(number, batch, seconds, setup, Source(data.train, facts))
                for number, (batch, seconds) in enumerate(taken)
            ]
        return self.about(bench, data, facts) | {
            "batches": told,
            "changed_by": changed_by(setup, self.config.tricks),
        }

    def taken(self, setup: Setup, bench: Bench) -> Iterator[tuple[Batch, float]]:
        """Each batch with the seconds from asking for it until it was there."""
        batches = islice(setup.batches(setup, self.epoch, 0), self.batches)
        for number in range(self.batches):
            bench.tell(0.4 + 0.6 * number / self.batches, f"batch {number}")
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            if bench.device.type != "cpu":
                torch.accelerator.synchronize(bench.device)
            yield batch, time.perf_counter() - began

    def told(
        self, number: int, batch: Batch, seconds: float, setup: Setup, source: "Source"
    ) -> dict[str, Any]:
        assert batch.examples is not None, "a training batch knows which examples it holds"
        prepared = batch if batch.is_prepared else setup.prepare(batch.to(setup.device))
        ready = setup.ready(batch)
        indices = batch.examples[:MOST_LISTED]
        share = MOST_PICTURES // self.batches // (2 if setup.change_batch else 1)
        inputs = ready.inputs.float()
        return {
            "number": number,
            "examples": len(batch.examples),
            "seconds": seconds,
            "indices": indices.tolist(),
            "labels": source.labels(indices),
            "counts": source.counts(batch.examples),
            "shape": list(ready.inputs.shape),
            "dtype": str(ready.inputs.dtype).removeprefix("torch."),
            "target_shape": list(ready.targets.shape),
            "mean": float(inputs.mean()),
            "spread": float(inputs.std(correction=0)),
            "shown": batch_pictures(prepared, ready, source.examples, share),
        }

    def about(self, bench: Bench, data: TaskData, facts: TaskFacts) -> dict[str, Any]:
        """What is so of the whole epoch."""
        loader = self.config.loader
        order = EpochOrder(loader, data.train.targets, self.config.seed)
        order.start(self.epoch, 0)
        source, comes = Source(data.train, facts), order.rest
        return {
            "device": str(bench.device),
            "torch": torch.__version__,
            "epoch": self.epoch,
            "is_resident": is_resident(loader, data.train, bench.device),
            "stored_examples": len(data.train),
            "stored_bytes": data.train.inputs.nbytes + data.train.targets.nbytes,
            "kind": facts.kind.value,
            "classes": list(facts.classes),
            "input_shape": list(facts.input_shape),
            "batches_of_epoch": len(order),
            "examples_of_epoch": len(comes),
            "distinct_examples": len(torch.unique(comes)),
            "most_often": int(torch.bincount(comes).max()),
            "order": comes[:MOST_ORDER].tolist(),
            "counts": source.counts(comes),
            "stored_counts": source.counts(torch.arange(len(data.train))),
        }


class Source:
    """The training examples, and what can be said of some of them."""

    def __init__(self, examples: Examples, facts: TaskFacts) -> None:
        self.examples, self.facts = examples, facts

    def counts(self, indices: torch.Tensor) -> list[int]:
        """How often each class comes, pixels where each has one; nothing where none is asked."""
        if self.facts.kind is Kind.NUMBERS:
            return []
        classes = self.classes_of(indices).flatten()
        if self.facts.ignored is not None:
            classes = classes[classes != self.facts.ignored]
        return torch.bincount(classes, minlength=len(self.facts.classes)).tolist()

    def classes_of(self, indices: torch.Tensor) -> torch.Tensor:
        """Numbers of classes (N, …); of a distribution the likeliest."""
        targets = self.examples.targets[indices]
        if self.facts.kind is Kind.DISTRIBUTION:
            return targets.argmax(dim=1)
        return (targets > 0.5).long() if self.facts.kind is Kind.BINARY else targets

    def labels(self, indices: torch.Tensor) -> list[str]:
        """What is to be learned of each of these examples, in words."""
        if self.facts.kind is Kind.NUMBERS:
            numbers = self.examples.targets[indices].flatten(1)
            return [" ".join(f"{value:g}" for value in row) for row in numbers.tolist()]
        return [self.named(row) for row in self.classes_of(indices)]

    def named(self, classes: torch.Tensor) -> str:
        known = torch.unique(classes)
        if self.facts.kind is Kind.PIXELS:
            # the first is the background, which is everywhere
            known = known[(known != 0) & (known != self.facts.ignored)]
        return " ".join(self.facts.classes[number] for number in known.tolist())


def changed_by(setup: Setup, tricks: Sequence[Any]) -> list[str]:
    """The names of the tricks that change batches."""
    owners = {getattr(change, "__self__", None) for change in setup.change_batch}
    return [one.name for one in tricks if setup.trick_state.get(one.name) in owners - {None}]
