"""What only a CUDA device shows: `make gpu` on a machine that has one."""

from pathlib import Path

import pytest
import torch
from lab import Lab, changed, quick_config

from app import queue
from app.executors.training import train_claimed
from app.models import Status
from trainer.block import Block
from trainer.build import build_setup
from trainer.clock import Clock
from trainer.loop import Progress, train
from trainer.recipes import RECIPES, SAMPLE_COMPARISON
from trainer.setup import StepOutcome
from trainer.store.database import writing

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

DEVICE = "cuda"


@pytest.mark.parametrize("name", SAMPLE_COMPARISON)
def test_the_samples_reach_98_percent_on_the_gpu(tmp_path: Path, name: str) -> None:
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(changed(RECIPES[name].config, device=DEVICE)))
    assert run.status == Status.FINISHED, run.reason
    assert run.device.startswith(DEVICE)
    assert run.result["val_accuracy"] >= 0.98
    assert run.result["peak_memory_bytes"] > 0
    assert set(run.evidence) == {trick.name for trick in RECIPES[name].config.tricks}


def test_a_seeded_deterministic_run_repeats_to_the_bit_on_the_gpu(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    config = quick_config(
        device=DEVICE,
        model={"dropout": 0.3},
        tricks=({"name": "seed"}, {"name": "deterministic"}),
    )
    one, other = (lab.points(lab.train(config), "train_loss") for _ in range(2))
    assert one.values.tolist() == other.values.tolist()


def test_a_run_resumed_on_the_gpu_ends_as_if_never_interrupted(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    config = quick_config(device=DEVICE, tricks=({"name": "seed"}, {"name": "deterministic"}))
    whole, resumed = lab.train(config), lab.add(config)
    lab.train_until(resumed, 30)
    with writing(lab.engine) as connection:
        queue.resume(connection, resumed)
    train_claimed(lab.claim(resumed), lab.settings)
    one, other = lab.points(whole, "train_loss"), lab.points(resumed, "train_loss")
    assert one.values.tolist() == other.values.tolist()


@pytest.mark.parametrize("loader", [{}, {"workers": 1}, {"workers": 1, "pin_memory": False}])
def test_batches_on_the_gpu_are_those_of_the_host(
    tmp_path: Path, loader: dict[str, object]
) -> None:
    config, folders = quick_config(loader=loader), Lab.at(tmp_path).settings.data_folders
    data = config.task.load(folders)
    here, there = (build_setup(config, data, torch.device(device)) for device in ("cpu", DEVICE))
    for setup in (here, there):
        # whole numbers, which every device gets from the stored ones without rounding
        setup.prepare = lambda batch: batch._replace(inputs=batch.inputs.float() - 3)
    pairs = zip(here.batches(here, 1, 2), there.batches(there, 1, 2), strict=True)
    for one, other in pairs:
        assert other.inputs.device.type == DEVICE
        assert torch.equal(there.ready(other).inputs.cpu(), here.ready(one).inputs)
        assert torch.equal(other.targets.cpu(), one.targets)


def test_no_step_waits_for_the_gpu(tmp_path: Path) -> None:
    config, folders = quick_config(), Lab.at(tmp_path).settings.data_folders
    setup = build_setup(config, config.task.load(folders), torch.device(DEVICE))
    setup.place()
    watch = Clocked()
    train(setup, Progress(), watch)
    assert watch.steps == setup.total_steps


class Clocked:
    """Watches steps as a run does; after the first of an epoch, waiting for the device is an error.

    The order of an epoch is copied once, at its beginning.
    """

    def __init__(self) -> None:
        self.clock, self.block, self.steps = Clock(), Block(), 0

    def lap(self, activity: str) -> None:
        self.clock.lap(activity)

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        self.steps += 1
        self.block.add(progress.step, {"loss": outcome.loss, "accuracy": outcome.hits})
        torch.cuda.set_sync_debug_mode("error")
        return False

    def after_epoch(self, progress: Progress) -> bool:
        torch.cuda.set_sync_debug_mode("default")
        assert len(self.block.read_back()) == 2
        self.block = Block()
        return False
