"""Build: from a config to the plain setup that tricks then edit."""

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from trainer.batches import EpochOrder, LoadedBatches, ResidentBatches, is_resident
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.setup import Setup
from trainer.sources import Sources, trained_by
from trainer.streams import process_stream
from trainer.tasks import Examples, TaskData


def build_setup(
    config: RunConfig, data: TaskData, device: torch.device, sources: Sources | None = None
) -> Setup:
    """The plain setup of a config: the model on the CPU with its initial weights, no trick yet."""
    facts = config.task.facts()
    order = EpochOrder(config.loader, data.train.targets, config.seed)
    if not len(order):
        raise Refused(
            f"a batch of {config.loader.batch_size} is larger than the {len(data.train)} training "
            "examples and drop_last leaves it out; lower batch_size or switch drop_last off"
        )
    targets = replace(facts.targets, spread=data.target_spread)
    batches = batches_of(order, data.train, device)
    setup = Setup(
        model=initial_model(config, facts.input_shape, facts.outputs),
        criterion=config.loss.criterion(targets, data.train.targets, device),
        targets=targets,
        device=device,
        seed=config.seed,
        epochs=config.budget.epochs,
        batch_size=config.loader.batch_size,
        batches_per_epoch=len(order),
        train_examples=len(data.train),
        drops_last=config.loader.drop_last,
        input_shape=facts.input_shape,
        # larger ones gain nothing on a CPU, and leave its caches
        evaluation_batch=512 if device.type == "cpu" else 4096,
        batches=batches.of_epoch,
        make_optimizer=config.optimizer.build,
        lr_multiplier=config.schedule.multiplier,
        prepare=data.normalise,
        switches=[batches.in_use] if isinstance(batches, LoadedBatches) else [],
    )
    if sources is not None:
        setup.trained = partial(trained_by, sources)
    return setup


def batches_of(
    order: EpochOrder, examples: Examples, device: torch.device
) -> ResidentBatches | LoadedBatches:
    """What brings the examples: from where they stay, or loaded for each epoch."""
    resident = is_resident(order.loader, examples, device)
    return (ResidentBatches if resident else LoadedBatches)(order, examples, device)


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
