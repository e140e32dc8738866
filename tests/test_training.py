"""What a run computes and records."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lab import Lab, changed, quick_config, tiny_config
from safetensors.torch import load_file

from app import queue
from app.executors.training import train_claimed
from app.models import Status
from trainer.build import choose_device
from trainer.config import RunConfig
from trainer.failures import Cause
from trainer.part import Refused
from trainer.recipes import RECIPES
from trainer.setup import Setup
from trainer.store.database import reading, writing
from trainer.store.reader import list_checkpoints, list_layer_outputs, read_layer_output
from trainer.tasks import DataFolders, Digits
from trainer.tricks import Seed


def test_the_loss_curve_is_that_of_a_plain_loop_to_the_last_bit(tmp_path: Path) -> None:
    config = quick_config(schedule={"name": "constant"})
    lab = Lab.at(tmp_path)
    recorded = lab.points(lab.train(config), "train_loss")

    def seed_of(*purpose: object) -> int:
        text = "/".join(map(str, (0, *purpose)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") // 2

    data = Digits().load(DataFolders(tmp_path)).train
    torch.manual_seed(seed_of("weights"))
    model = config.model.build((1, 8, 8), 10)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    pixels = data.inputs.float()
    mean, spread = float(pixels.mean()), float(pixels.std())
    losses = []
    for epoch in range(2):
        order = torch.randperm(
            len(data), generator=torch.Generator().manual_seed(seed_of("order", epoch))
        )
        for chosen in order.split(64):
            loss = F.cross_entropy(
                model((data.inputs[chosen].float() - mean) / spread), data.targets[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    assert recorded.values.tolist() == losses
    assert recorded.steps.tolist() == list(range(1, len(losses) + 1))


def test_the_small_cnn_reads_digits_with_98_percent(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(RECIPES["digits-cnn"].config))
    assert run.status == Status.FINISHED
    assert run.result["val_accuracy"] >= 0.98
    assert run.step == run.total_steps


@pytest.mark.parametrize("name", ["digits-cnn-deterministic", "digits-cnn"])
def test_training_is_the_same_with_and_without_looking_at_layers(tmp_path: Path, name: str) -> None:
    config = changed(RECIPES[name].config, budget={"epochs": 1}, model={"dropout": 0.2})
    config = changed(config, tricks=({"name": "seed"},))
    lab = Lab.at(tmp_path)
    looked_at = lab.train(changed(config, recording={"layer_steps": "every", "layers_every": 1}))
    left_alone = lab.train(changed(config, recording={"layer_steps": "never"}))
    one, other = lab.points(looked_at, "train_loss"), lab.points(left_alone, "train_loss")
    assert one.values.tolist() == other.values.tolist()
    assert weights(lab, looked_at) == weights(lab, left_alone)


def test_data_order_and_weights_do_not_depend_on_tricks_or_loader_processes(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    plain = lab.points(lab.train(quick_config()), "train_loss").values.tolist()
    seeded = lab.train(quick_config(tricks=({"name": "seed"}, {"name": "deterministic"})))
    assert lab.points(seeded, "train_loss").values.tolist() == plain
    loaded = lab.train(quick_config(loader={"workers": 2}))
    assert lab.points(loaded, "train_loss").values.tolist() == plain


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    one, other = lab.train(quick_config()), lab.train(quick_config(seed=1))
    assert weights(lab, one) != weights(lab, other)


def test_without_the_seed_trick_dropout_differs_from_run_to_run(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)

    def curve(**changes: object) -> list[float]:
        config = quick_config(model={"dropout": 0.5}, **changes)
        return lab.points(lab.train(config), "train_loss").values.tolist()

    torch.manual_seed(1)
    free = curve()
    torch.manual_seed(2)
    assert curve() != free
    seeded = curve(tricks=({"name": "seed"},))
    torch.manual_seed(3)
    assert curve(tricks=({"name": "seed"},)) == seeded


def test_the_test_score_is_that_of_the_saved_weights(tmp_path: Path) -> None:
    config = quick_config()
    lab = Lab.at(tmp_path)
    run_id = lab.train(config)
    model = config.model.build((1, 8, 8), 10)
    model.load_state_dict(
        {
            name.removeprefix("model."): value
            for name, value in load_file(newest_checkpoint(lab, run_id)).items()
            if name.startswith("model.")
        }
    )
    data = Digits().load(DataFolders(tmp_path))
    inputs = (data.test.inputs.float() - data.mean) / data.spread
    with torch.no_grad():
        right = (model.eval()(inputs).argmax(1) == data.test.targets).float().mean().item()
    assert lab.run(run_id).result["val_accuracy"] == pytest.approx(right)
    assert lab.points(run_id, "val_accuracy").values[-1] == pytest.approx(right)


def test_a_layers_output_is_what_a_plain_forward_gives(tmp_path: Path) -> None:
    config = quick_config(recording={"layers": ["block2.conv", "block1"], "layer_examples": 3})
    lab = Lab.at(tmp_path)
    run_id = lab.train(config)
    with reading(lab.engine) as connection:
        rows = list_layer_outputs(connection, run_id)
        first = read_layer_output(connection, run_id, "block2.conv", step=0)
    assert {row.layer for row in rows} == {"block1", "block2.conv"}
    assert [row.step for row in rows if row.layer == "block1"] == [0, 1, 2, 4, 8, 16, 32, 46]
    assert first is not None

    model = untrained(config)
    data = Digits().load(DataFolders(tmp_path))
    with torch.no_grad():
        features = model.block1((data.test.inputs[:3].float() - data.mean) / data.spread)
        expected = model.block2.conv(model.pool1(features)).numpy()
    error = np.abs(first.values() - expected).max()
    assert first.quantised.shape == (3, 32, 4, 4)
    assert error <= (first.high - first.low) / 255 * 0.51


def test_training_is_the_same_to_the_bit_whatever_is_looked_at(tmp_path: Path) -> None:
    tricks = [{"name": "seed"}]
    model = {"name": "small_cnn", "dropout": 0.3}
    every = {"layer_steps": "every", "layers_every": 5}
    views = ("channels", "weight", "gradient")
    lab = Lab.at(tmp_path)
    blind, looking = (
        lab.train(quick_config(tricks=tricks, model=model, recording=recording))
        for recording in ({"layer_steps": "never"}, {**every, "layer_views": views})
    )
    for name in ("train_loss", "val_accuracy", "val_loss"):
        assert np.array_equal(lab.points(blind, name).values, lab.points(looking, name).values)
    with reading(lab.engine) as connection:
        for view in views:
            rows = list_layer_outputs(connection, looking, view)
            assert "block1.conv" in {row.layer for row in rows}
            assert {row.step for row in rows} >= {0, 5, 45}


def test_a_probe_copies_before_an_in_place_operation_spoils_what_it_saw() -> None:
    from trainer.batch import Batch
    from trainer.config import Recording
    from trainer.probe import Place, Probe

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(inplace=True))
    inputs = torch.randn(5, 4)
    look = Probe(Recording(), ["0"], Batch(inputs, torch.zeros(5))).look(model, 0)
    assert look.statistics[Place("0", 0)]["lowest"] < 0


def test_a_module_called_twice_gives_two_outputs() -> None:
    from trainer.batch import Batch
    from trainer.config import Recording
    from trainer.probe import Probe

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.inner(self.inner(inputs))

    look = Probe(Recording(), ["inner"], Batch(torch.randn(2, 4), torch.zeros(2))).look(Twice(), 3)
    assert [str(place) for place in look.statistics] == ["inner", "inner#2"]


def test_layer_outputs_stop_at_their_budget_and_statistics_go_on(tmp_path: Path) -> None:
    config = quick_config(
        model={"name": "small_cnn", "width": 128},
        budget={"steps": 12},
        recording={
            "layer_steps": "every",
            "layers_every": 1,
            "layer_megabytes": 1,
            "layer_examples": 64,
        },
    )
    lab = Lab.at(tmp_path)
    run_id = lab.train(config)
    with reading(lab.engine) as connection:
        rows = list_layer_outputs(connection, run_id)
    assert sum(row.bytes for row in rows) <= 10**6
    assert len(lab.points(run_id, "spread", "block1.conv")) == 13


def diverging(**budget: Any) -> RunConfig:
    """A config whose loss is infinite after a few steps."""
    return quick_config(
        model={"name": "mlp"},
        loss={"name": "mse"},
        optimizer={"learning_rate": 1000},
        schedule={"name": "constant"},
        budget={"epochs": 2, **budget},
    )


def test_a_diverged_run_ends_at_that_step_and_says_so_with_its_last_finite_values(
    tmp_path: Path,
) -> None:
    lab = Lab.at(tmp_path)
    run_id = lab.train(diverging())
    run, points = lab.run(run_id), lab.points(run_id, "train_loss")
    step, last = run.step, run.failure["last_finite"]
    assert (run.status, run.cause) == (Status.FAILED, Cause.DIVERGED)
    assert run.reason == (
        f"the training loss became infinite at step {step}; "
        f"at step {step - 1} it was {last['train_loss']:.4g}"
    )
    # the curve ends there, however much later it was noticed
    assert points.steps.tolist() == list(range(1, step + 1))
    assert np.isfinite(points.values).tolist() == [True] * (step - 1) + [False]
    assert last["train_loss"] == points.values[-2]
    assert last["learning_rate"] == 1000
    assert step < run.total_steps


def test_a_diverged_run_goes_on_where_that_is_wanted(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run_id = lab.train(diverging(stop_when_diverged=False))
    run, points = lab.run(run_id), lab.points(run_id, "train_loss")
    assert run.status == Status.FINISHED
    assert run.result["val_loss"] == "NaN"
    assert math.isnan(points.values[-1])
    assert len(points) == run.total_steps


def test_a_budget_of_steps_ends_a_run_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run_id = lab.train(quick_config(budget={"steps": 30}))
    assert lab.run(run_id).step == 30
    assert lab.points(run_id, "train_loss").steps[-1] == 30
    assert lab.points(run_id, "val_loss").steps.tolist() == [23, 30]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, int]:
    """A run with everything that has a state: dropout, tricks, AdamW, a schedule."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    tricks = ({"name": "seed"}, {"name": "deterministic"}, {"name": "gradient_accumulation"})
    config = quick_config(
        model={"dropout": 0.3},
        loader={"batch_size": 16},
        tricks=tricks,
        optimizer={"name": "adamw"},
    )
    return lab, lab.train(config)


@pytest.mark.parametrize("at_step", [1, 23, 24])
def test_a_paused_and_resumed_run_ends_as_if_never_interrupted(
    uninterrupted: tuple[Lab, int], at_step: int
) -> None:
    lab, whole = uninterrupted
    run_id = lab.add(RunConfig.model_validate(lab.run(whole).config))
    lab.train_until(run_id, at_step)
    assert lab.run(run_id).status == Status.PAUSED
    assert lab.run(run_id).step == at_step

    resume(lab, run_id)
    train_claimed(lab.claim(run_id), lab.settings)

    assert lab.run(run_id).status == Status.FINISHED
    assert weights(lab, run_id) == weights(lab, whole)
    for name in ("train_loss", "train_accuracy", "learning_rate", "val_loss", "val_accuracy"):
        one, other = lab.points(run_id, name), lab.points(whole, name)
        assert one.steps.tolist() == other.steps.tolist()
        assert one.values.tolist() == other.values.tolist()
    for name in ("mean", "dead"):
        one, other = lab.points(run_id, name, "block1.conv"), lab.points(whole, name, "block1.conv")
        assert one.steps.tolist() == other.steps.tolist()
        assert one.values.tolist() == other.values.tolist()


def test_the_time_each_step_waits_for_data_is_recorded(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    loader = {"workers": 1, "persistent_workers": False}
    run_id = lab.add(quick_config(loader=loader))
    lab.train_until(run_id, 30)
    resume(lab, run_id)
    train_claimed(lab.claim(run_id), lab.settings)
    waits = lab.points(run_id, "data_seconds")
    assert waits.steps.tolist() == list(range(1, 47))
    assert (waits.values > 0).all()
    # all that the clock saw, of both attempts
    assert waits.values.sum() == pytest.approx(lab.run(run_id).result["seconds"]["data"])
    # the first batch of an epoch waits for a process to start, and so does the one gone on from
    slowest = sorted(waits.steps[waits.values.argsort()[-3:]].tolist())
    assert slowest == [1, 24, 31]


def test_a_step_that_is_recorded_tells_its_own_wait(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    config = quick_config(recording={"metrics_every": 23}, loader={"workers": 1})
    run_id = lab.train(config)
    waits = lab.points(run_id, "data_seconds")
    assert waits.steps.tolist() == [23, 46]
    # the wait for the process to start is step 1's
    assert waits.values.sum() < lab.run(run_id).result["seconds"]["data"] / 4


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    config = quick_config()
    run_id = lab.add(config)
    for step in (10, 20):
        lab.train_until(run_id, step)
        resume(lab, run_id)
    newest = newest_checkpoint(lab, run_id)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    train_claimed(lab.claim(run_id), lab.settings)
    assert lab.run(run_id).status == Status.FINISHED
    assert lab.points(run_id, "train_loss").steps.tolist() == list(range(1, 47))


def test_a_run_whose_checkpoints_are_all_damaged_starts_anew_and_keeps_its_new_ones(
    tmp_path: Path,
) -> None:
    lab = Lab.at(tmp_path)
    run_id = lab.add(tiny_config(budget={"epochs": 10}))
    for step in (10, 20, 30):
        lab.train_until(run_id, step)
        resume(lab, run_id)
    for damaged in newest_checkpoint(lab, run_id).parent.iterdir():
        damaged.write_bytes(b"")
    lab.train_until(run_id, 5)
    assert newest_checkpoint(lab, run_id).exists()
    assert lab.points(run_id, "train_loss").steps.tolist() == [1, 2, 3, 4, 5]


def test_a_missing_data_set_names_the_three_ways_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.tasks.fashion_mnist.DEBIAN_FOLDER", tmp_path / "nowhere")
    lab = Lab.at(tmp_path, download=False)
    run = lab.run(lab.train(quick_config(task={"name": "fashion_mnist"})))
    assert run.status == Status.FAILED
    assert "put its four IDX files" in run.reason
    assert "apt install dataset-fashion-mnist" in run.reason
    assert "network" in run.reason


def test_an_absent_device_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"this machine has no device 'cuda:77'; choose auto or cpu"):
        choose_device("cuda:77")


@pytest.mark.parametrize("steps", [None, 6])
def test_a_run_lost_after_its_last_checkpoint_looks_and_scores_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    lab, faults = Lab.at(tmp_path / "lab"), tmp_path / "faults"
    faults.mkdir()
    monkeypatch.setattr("trainer.failpoints.FOLDER", str(faults))
    (faults / "run.conclude").write_text("error")
    recording = {"layers": ("head",), "layer_steps": "end", "checkpoint_steps": 4}
    run_id = lab.train(tiny_config(recording=recording, budget={"epochs": 2, "steps": steps}))
    assert lab.run(run_id).status == Status.FAILED
    with writing(lab.engine) as connection:
        queue.retry(connection, run_id)
    lab.train_claimed(run_id)
    run = lab.run(run_id)
    assert (run.status, run.reason) == (Status.FINISHED, "")
    last = steps or 8
    assert lab.points(run_id, "val_loss").steps.tolist() == sorted({4, last})
    assert lab.points(run_id, "mean", "head").steps.tolist() == [last]


def resume(lab: Lab, run_id: int) -> None:
    with writing(lab.engine) as connection:
        queue.resume(connection, run_id)


def newest_checkpoint(lab: Lab, run_id: int) -> Path:
    with reading(lab.engine) as connection:
        newest = list_checkpoints(connection, run_id)[0]
    return lab.settings.run_folder(run_id) / "checkpoints" / str(newest.file)


def weights(lab: Lab, run_id: int) -> str:
    """A hash of every tensor of a run's last checkpoint: weights, optimizer, generators."""
    tensors = load_file(newest_checkpoint(lab, run_id))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(("model.", "optimizer.")):
            digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def untrained(config: object) -> torch.nn.Module:
    from trainer.build import initial_model

    model: torch.nn.Module = initial_model(config, (1, 8, 8), 10)  # type: ignore[arg-type]
    return model.eval()


def test_what_initialises_a_run_is_called_once_in_its_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab.at(tmp_path)
    calls: list[int] = []

    def initialise(setup: Setup) -> None:
        # placed: there is an optimizer already
        calls.append(len(setup.optimizer.param_groups))

    monkeypatch.setattr(Seed, "apply", lambda trick, setup: setup.initialise.append(initialise))
    monkeypatch.setattr(Seed, "evidence", lambda trick, setup: {})
    run_id = lab.add(quick_config(tricks=({"name": "seed"},)))
    lab.train_until(run_id, 3)
    assert calls == [1]
    lab.resume(run_id)
    lab.train_claimed(run_id)
    assert lab.run(run_id).status == Status.FINISHED
    assert calls == [1]
