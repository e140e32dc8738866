"""Batches: how the training examples come, batch by batch, in the order of an epoch."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.data import DataLoader, Sampler

from trainer.batch import Batch
from trainer.failpoints import failpoint
from trainer.lifeline import die_with_starter
from trainer.loader import Loader
from trainer.memory import free_memory_bytes
from trainer.setup import Setup
from trainer.streams import generator, stream_seed
from trainer.tasks import Examples

RESIDENT_SHARE = 0.1
"""Of what is free on an accelerator, at most so much is taken by examples that stay there."""
PREPARED_BYTES = 256 * 10**6
"""Examples as the model takes them are kept up to this size: as floats they are four times as large
as stored, and of large ones the normalising costs little beside the network."""


class EpochOrder(Sampler[list[int]]):
    """The batches of one epoch, from any batch on: a function of (seed, epoch) alone."""

    def __init__(self, loader: Loader, targets: torch.Tensor, seed: int) -> None:
        self.loader, self.examples, self.seed = loader, len(targets), seed
        self.order_seed = seed if loader.order_seed is None else loader.order_seed
        self.weights = loader.example_weights(targets)
        self.start(0, 0)

    def start(self, epoch: int, first: int) -> None:
        """From here on, give the batches of this epoch from this one on."""
        self.first = first
        self.order = self.drawn(generator(self.order_seed, "order", epoch))

    def drawn(self, numbers: torch.Generator) -> torch.Tensor:
        """Which examples come, one after the other: (N,) int64."""
        if self.weights is not None:
            return torch.multinomial(
                self.weights, self.examples, replacement=True, generator=numbers
            )
        if self.loader.shuffle:
            return torch.randperm(self.examples, generator=numbers)
        return torch.arange(self.examples)

    def __len__(self) -> int:
        return self.loader.batches_of(self.examples)

    def __iter__(self) -> Iterator[list[int]]:
        # lists: a tensor would go to a loader process through shared memory
        return (members.tolist() for members in self.members())

    @property
    def rest(self) -> torch.Tensor:
        """The examples that are still to come in this epoch, in their order: (N,) int64."""
        size = self.loader.batch_size
        return self.order[self.first * size : len(self) * size]

    def members(self) -> Sequence[torch.Tensor]:
        """Which examples each of these batches holds, (N,) int64: views, made all at once.

        Cut one by one they would take twice as long.
        """
        rest = self.rest
        return torch.split(rest, self.loader.batch_size) if len(rest) else ()


class ResidentBatches:
    """Batches out of examples that lie on the training device: nothing is loaded or copied.

    They are made ready for the model once, where that takes little room, and not in every epoch.
    """

    def __init__(self, order: EpochOrder, examples: Examples, device: torch.device) -> None:
        self.order = order
        self.whole = Batch(examples.inputs, examples.targets).to(device)

    def of_epoch(self, setup: Setup, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of this epoch from this one on."""
        self.make_ready(setup)
        self.order.start(epoch, first)
        members = chosen = self.order.members()
        if setup.device.type != "cpu" and members:
            # one copy for the whole epoch
            rest = self.order.rest.to(setup.device, non_blocking=True)
            chosen = torch.split(rest, self.order.loader.batch_size)
        inputs, targets, _, _, is_prepared = self.whole
        for place, examples in zip(chosen, members, strict=True):
            # half the time of inputs[place]
            yield Batch(
                inputs.index_select(0, place),
                targets.index_select(0, place),
                examples,
                epoch,
                is_prepared,
            )

    def make_ready(self, setup: Setup) -> None:
        """Prepare all examples at once: each by itself, so the bits are those of a batch."""
        if self.whole.is_prepared or not len(self.whole.inputs):
            return
        one = setup.prepare(Batch(self.whole.inputs[:1], self.whole.targets[:1]))
        if len(self.whole.inputs) * one.inputs.nbytes <= PREPARED_BYTES:
            self.whole = setup.prepare(self.whole)._replace(is_prepared=True)


class LoadedBatches:
    """torch's DataLoader over examples in host memory; copies run ahead of what trains."""

    def __init__(self, order: EpochOrder, examples: Examples, device: torch.device) -> None:
        loader = order.loader
        has_workers = loader.workers > 0
        self.order, self.device = order, device
        # its own generator: iter(DataLoader) draws, and the process-wide one must not move
        self.generator = torch.Generator()
        self.loader: DataLoader[Batch] = DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=order,
            collate_fn=without_numbers if loader.in_order else as_fetched,  # type: ignore[arg-type]
            num_workers=loader.workers,
            prefetch_factor=loader.prefetch if has_workers else None,
            persistent_workers=loader.persistent_workers and has_workers,
            pin_memory=loader.pin_memory and device.type == "cuda",
            in_order=loader.in_order,
            timeout=loader.timeout if has_workers else 0,
            multiprocessing_context=(loader.multiprocessing_context or None)
            if has_workers
            else None,
            worker_init_fn=start_loader_process,
            generator=self.generator,
        )

    def of_epoch(self, setup: Setup, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of this epoch from this one on."""
        self.order.start(epoch, first)
        self.generator.manual_seed(stream_seed(self.order.seed, "loader", epoch))
        members = self.order.members() if self.order.loader.in_order else None
        batches = numbered(iter(self.loader), members, epoch)
        return copied_ahead(batches, self.device) if self.device.type == "cuda" else batches

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside the block loader processes may be kept from epoch to epoch; after it none is."""
        try:
            yield
        finally:
            # torch ends them with their iterator; found in a ring of garbage, that would wait for
            # each of them for five seconds in vain
            self.loader._iterator = None


def is_resident(loader: Loader, examples: Examples, device: torch.device) -> bool:
    """Whether the examples are to stay on the device: where they fit and nobody else loads them."""
    if loader.workers:
        return False
    size = examples.inputs.nbytes + examples.targets.nbytes
    return device.type == "cpu" or size <= RESIDENT_SHARE * free_memory_bytes(device)


def numbered(
    batches: Iterator[Batch], members: Sequence[torch.Tensor] | None, epoch: int
) -> Iterator[Batch]:
    """Tell each batch of which epoch it is and, if it does not know, which examples it holds.

    Here and not where they are fetched: a loader process that stays from epoch to epoch does not
    see which epoch it is, and whatever it adds to a batch has to travel back. Batches that come
    in any order (`members` is None) bring their numbers along nevertheless.
    """
    if members is None:
        for batch in batches:
            yield batch._replace(epoch=epoch)
        return
    for batch, examples in zip(batches, members, strict=True):
        yield Batch(batch.inputs, batch.targets, examples, epoch)


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Each batch on the device; the next one is copied on a stream of its own meanwhile.

    Copies out of pinned memory do not hold up the host; what is given waits for its own copy only.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = batch.to(device), stream.record_event()
        if waiting is not None:
            yield arrived(*waiting)
        waiting = copied
    if waiting is not None:
        yield arrived(*waiting)


def arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """A copied batch, safe to use on the current stream."""
    current = torch.cuda.current_stream(batch.inputs.device)
    current.wait_event(copied)
    for tensor in (batch.inputs, batch.targets):
        # its memory belongs to the copying stream, which must not give it away too soon
        tensor.record_stream(current)
    return batch


def as_fetched(batch: Batch) -> Batch:
    """Examples fetch whole batches, so there is nothing to collate."""
    return batch


def without_numbers(batch: Batch) -> Batch:
    """What has to travel from a loader process when the other side knows what comes next."""
    return Batch(batch.inputs, batch.targets)


def start_loader_process(number: int) -> None:
    # a loader stuck in __getitem__ would outlive its killed trainer
    die_with_starter()
    failpoint("loader.start")
