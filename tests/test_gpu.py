"""What only a CUDA device shows: `make gpu` on a machine that has one."""

from pathlib import Path

import pytest
import torch
from lab import Lab, changed, quick_config

from app import queue
from app.executors.training import train_claimed
from app.models import Status
from trainer.recipes import RECIPES, SAMPLE_COMPARISON
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
