"""Batches: how the training examples come, batch by batch, in the order of an epoch."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler

from trainer.batch import Batch
from trainer.config import Loader
from trainer.failpoints import failpoint
from trainer.lifeline import die_with_parent
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

    def __init__(self, loader: Loader, examples: int, seed: int) -> None:
        self.loader, self.examples, self.seed = loader, examples, seed
        self.start(0, 0)

    def start(self, epoch: int, first: int) -> None:
        """From here on, give the batches of this epoch from this one on."""
        self.first = first
        self.order = (
            torch.randperm(self.examples, generator=generator(self.seed, "order", epoch))
            if self.loader.shuffle
            else torch.arange(self.examples)
        )

    def __len__(self) -> int:
        size = self.loader.batch_size
        return self.examples // size if self.loader.drop_last else -(-self.examples // size)

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
        self.order, self.device = order, device
        # its own generator: iter(DataLoader) draws, and the process-wide one must not move
        self.generator = torch.Generator()
        self.loader: DataLoader[Batch] = DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=order,
            collate_fn=as_fetched,  # type: ignore[arg-type]
            num_workers=loader.workers,
            prefetch_factor=loader.prefetch if loader.workers else None,
            persistent_workers=loader.persistent_workers and loader.workers > 0,
            pin_memory=loader.pin_memory and device.type == "cuda",
            worker_init_fn=start_loader_process,
            generator=self.generator,
        )

    def of_epoch(self, setup: Setup, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of this epoch from this one on."""
        self.order.start(epoch, first)
        self.generator.manual_seed(stream_seed(self.order.seed, "loader", epoch))
        batches = numbered(iter(self.loader), self.order.members(), epoch)
        return copied_ahead(batches, self.device) if self.device.type == "cuda" else batches


def is_resident(loader: Loader, examples: Examples, device: torch.device) -> bool:
    """Whether the examples are to stay on the device: where they fit and nobody else loads them."""
    if loader.workers:
        return False
    size = examples.inputs.nbytes + examples.targets.nbytes
    return device.type == "cpu" or size <= RESIDENT_SHARE * free_memory_bytes(device)


def numbered(
    batches: Iterator[Batch], members: Sequence[torch.Tensor], epoch: int
) -> Iterator[Batch]:
    """Tell each batch which examples it holds, and of which epoch.

    Here and not where they are fetched: a loader process that stays from epoch to epoch does not
    see which epoch it is, and whatever it adds to a batch has to travel back.
    """
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


def start_loader_process(number: int) -> None:
    # a loader stuck in __getitem__ would outlive its killed trainer
    die_with_parent()
    failpoint("loader.start")
