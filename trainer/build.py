"""Build: from a config to the plain setup that tricks then edit."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from trainer.batch import Batch
from trainer.config import Loader, RunConfig
from trainer.failpoints import failpoint
from trainer.lifeline import die_with_parent
from trainer.part import Refused
from trainer.setup import Setup
from trainer.streams import generator, process_stream, stream_seed
from trainer.tasks import Examples, TaskData


def build_setup(config: RunConfig, data: TaskData, device: torch.device) -> Setup:
    """The plain setup of a config: the model on the CPU with its initial weights, no trick yet."""
    facts = config.task.facts()
    batches = EpochBatches(config.loader, data.train, config.seed, device)
    if not len(batches):
        raise Refused(
            f"a batch of {config.loader.batch_size} is larger than the {len(data.train)} training "
            "examples and drop_last leaves it out; lower batch_size or switch drop_last off"
        )
    return Setup(
        model=initial_model(config, facts.input_shape, facts.outputs),
        criterion=config.loss,
        device=device,
        seed=config.seed,
        epochs=config.budget.epochs,
        batch_size=config.loader.batch_size,
        batches_per_epoch=len(batches),
        train_examples=len(data.train),
        drops_last=config.loader.drop_last,
        input_shape=facts.input_shape,
        batches=batches.of_epoch,
        make_optimizer=config.optimizer.build,
        lr_multiplier=config.schedule.multiplier,
        prepare=data.normalise,
    )


def initial_model(config: RunConfig, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A fresh network whose weights depend on the seed alone."""
    with process_stream(config.seed, "weights"):
        return config.model.build(input_shape, outputs)


def choose_device(wanted: str) -> torch.device:
    """The device by name; `auto` takes CUDA, then MPS, then the CPU. Refuses one that is absent."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(wanted)
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= present:
        raise Refused(f"this machine has no device {wanted!r}; choose auto or cpu")
    return device


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
        order, size = self.order.tolist(), self.loader.batch_size
        starts = range(self.first * size, len(self) * size, size)
        return (order[start : start + size] for start in starts)

    def members(self) -> Sequence[torch.Tensor]:
        """Which examples each of these batches holds, (N,) int64: views, made all at once.

        Cut one by one they would take twice as long.
        """
        size = self.loader.batch_size
        rest = self.order[self.first * size : len(self) * size]
        return torch.split(rest, size) if len(rest) else ()


class EpochBatches:
    """torch's DataLoader over the training examples, started at any batch of any epoch."""

    def __init__(self, loader: Loader, examples: Examples, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.order = EpochOrder(loader, len(examples), seed)
        # its own generator: iter(DataLoader) draws, and the process-wide one must not move
        self.generator = torch.Generator()
        self.loader: DataLoader[Batch] = DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=self.order,
            collate_fn=as_fetched,  # type: ignore[arg-type]
            num_workers=loader.workers,
            prefetch_factor=loader.prefetch if loader.workers else None,
            persistent_workers=loader.persistent_workers and loader.workers > 0,
            pin_memory=loader.pin_memory and device.type == "cuda",
            worker_init_fn=start_loader_process,
            generator=self.generator,
        )

    def __len__(self) -> int:
        return len(self.order)

    def of_epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        self.order.start(epoch, first)
        self.generator.manual_seed(stream_seed(self.seed, "loader", epoch))
        return numbered(iter(self.loader), self.order.members(), epoch)


def numbered(
    batches: Iterator[Batch], members: Sequence[torch.Tensor], epoch: int
) -> Iterator[Batch]:
    """Tell each batch which examples it holds, and of which epoch.

    Here and not where they are fetched: a loader process that stays from epoch to epoch does not
    see which epoch it is, and whatever it adds to a batch has to travel back.
    """
    for batch, examples in zip(batches, members, strict=True):
        yield Batch(batch.inputs, batch.targets, examples, epoch)


def as_fetched(batch: Batch) -> Batch:
    """Examples fetch whole batches, so there is nothing to collate."""
    return batch


def start_loader_process(number: int) -> None:
    # a loader stuck in __getitem__ would outlive its killed trainer
    die_with_parent()
    failpoint("loader.start")
