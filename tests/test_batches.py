"""Batches: whichever way the examples come, the same ones come, in the same order, to the bit."""

from pathlib import Path

import pytest
import torch
from lab import Lab, quick_config

from trainer.batch import Batch
from trainer.batches import LoadedBatches, ResidentBatches, is_resident
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.setup import Setup

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


def built(lab: Lab, config: RunConfig) -> Setup:
    return build_setup(config, config.task.load(lab.settings.data_folders), CPU)


def ready(setup: Setup, epoch: int, first: int) -> list[Batch]:
    return [setup.ready(batch) for batch in setup.batches(setup, epoch, first)]


def kind(setup: Setup) -> type:
    """What makes the batches of a setup."""
    return type(setup.batches.__self__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "loader",
    [{}, {"sampler": "sequential"}, {"drop_last": True}, {"batch_size": 1437}, {"batch_size": 100}],
    ids=str,
)
@pytest.mark.parametrize(("epoch", "first"), [(0, 0), (3, 0), (3, 2)])
def test_resident_examples_come_as_the_dataloader_would_bring_them(
    lab: Lab, loader: dict[str, object], epoch: int, first: int
) -> None:
    config = quick_config(loader=loader)
    setup = built(lab, config)
    assert kind(setup) is ResidentBatches
    order = setup.batches.__self__.order  # type: ignore[attr-defined]
    data = config.task.load(lab.settings.data_folders)
    loaded = LoadedBatches(order, data.train, CPU)
    one = ready(setup, epoch, first)
    other = [setup.ready(batch) for batch in loaded.of_epoch(setup, epoch, first)]
    assert len(one) == len(other) == setup.batches_per_epoch - first or not one
    for resident, brought in zip(one, other, strict=True):
        assert torch.equal(resident.inputs, brought.inputs)
        assert torch.equal(resident.targets, brought.targets)
        assert resident.examples is not None
        assert brought.examples is not None
        assert torch.equal(resident.examples, brought.examples)
        assert resident.epoch == brought.epoch == epoch


def test_examples_that_are_large_as_floats_are_prepared_batch_by_batch(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = built(lab, quick_config()), built(lab, quick_config())
    prepared = next(small.batches(small, 0, 0))
    monkeypatch.setattr("trainer.batches.PREPARED_BYTES", 1000)
    stored = next(large.batches(large, 0, 0))
    assert (prepared.is_prepared, stored.is_prepared) == (True, False)
    assert (prepared.inputs.dtype, stored.inputs.dtype) == (torch.float32, torch.uint8)
    assert torch.equal(small.ready(prepared).inputs, large.ready(stored).inputs)


def test_a_trick_that_prepares_differently_is_heeded(lab: Lab) -> None:
    setup = built(lab, quick_config())
    plain = setup.prepare
    setup.prepare = lambda batch: plain(batch)._replace(inputs=plain(batch).inputs * 2)
    doubled = setup.ready(next(setup.batches(setup, 0, 0)))
    other = built(lab, quick_config())
    assert torch.equal(doubled.inputs, other.ready(next(other.batches(other, 0, 0))).inputs * 2)


def test_who_chose_loader_processes_gets_them(lab: Lab, tmp_path: Path) -> None:
    setup = built(lab, quick_config(loader={"workers": 1}))
    assert kind(setup) is LoadedBatches
    data = quick_config().task.load(lab.settings.data_folders)
    assert not is_resident(quick_config(loader={"workers": 1}).loader, data.train, CPU)
    assert is_resident(quick_config().loader, data.train, CPU)
