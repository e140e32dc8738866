"""Freezing: what stays, what learns, and that nothing frozen moves by a bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, tiny_config
from safetensors.torch import load_file

from app import queue
from app.executors.training import train_claimed
from app.models import Status
from trainer.build import build_setup, initial_model
from trainer.check import check, facts
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.setup import Setup
from trainer.store.database import writing
from trainer.tasks import DataFolders
from trainer.tricks import Freeze


def config_of(**how: Any) -> RunConfig:
    return tiny_config(tricks=[{"name": "freeze", **how}], model={"name": "small_cnn", "width": 2})


def setup_of(config: RunConfig) -> Setup:
    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(config, data, torch.device("cpu"))
    config.tricks[0].apply(setup)
    setup.place()
    setup.start_fresh()
    return setup


def trained(lab: Lab, config: RunConfig) -> tuple[Any, dict[str, torch.Tensor]]:
    """The run's evidence, and its last weights and buffers."""
    run_id = lab.train(config)
    run = lab.run(run_id)
    assert (run.status, run.reason) == (Status.FINISHED, "")
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    tensors = load_file(newest)
    model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    return run.evidence["freeze"], model


def fresh(config: RunConfig) -> dict[str, torch.Tensor]:
    task = config.task.facts()
    return initial_model(config, task.input_shape, task.outputs).state_dict()


def moved(config: RunConfig, weights: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, was in fresh(config).items() if not torch.equal(was, weights[name])}


def test_frozen_tensors_stay_to_the_bit_and_all_others_learn(tmp_path: Path) -> None:
    config = config_of(layers="block1, *.norm")
    evidence, weights = trained(Lab.at(tmp_path), config)
    assert moved(config, weights) == {
        "block2.conv.weight",
        "block3.conv.weight",
        "head.weight",
        "head.bias",
    }
    assert evidence["unchanged"] is True
    assert evidence["moved"] == []
    assert evidence["frozen_in_optimizer"] == 0
    # three norms of weight, bias and three buffers, and a convolution
    assert (evidence["layers"], evidence["compared_tensors"]) == (4, 16)


def test_without_names_the_last_layer_alone_learns(tmp_path: Path) -> None:
    config = config_of()
    evidence, weights = trained(Lab.at(tmp_path), config)
    assert moved(config, weights) == {"head.weight", "head.bias"}
    head = weights["head.weight"].numel() + weights["head.bias"].numel()
    assert evidence["trained_weights"] == head


def test_statistics_of_a_frozen_batch_norm_move_only_where_they_may(tmp_path: Path) -> None:
    config = config_of(layers="block*", keep_statistics=False)
    evidence, weights = trained(Lab.at(tmp_path), config)
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert moved(config, weights) - {"head.weight", "head.bias"} == {
        f"block{number}.norm.{name}" for number in (1, 2, 3) for name in statistics
    }
    assert evidence["unchanged"] is True


def test_the_optimizer_holds_what_learns_and_nothing_else() -> None:
    setup = setup_of(config_of(layers="block1"))
    held = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
    named = setup.model.named_parameters()
    assert {name for name, p in named if id(p) not in held} == {
        "block1.conv.weight",
        "block1.norm.weight",
        "block1.norm.bias",
    }


def test_a_frozen_batch_norm_is_in_eval_whatever_the_model_is_told() -> None:
    setup = setup_of(config_of(layers="block1"))
    setup.model.train()
    setup.model(torch.randn(4, 1, 8, 8))
    assert not setup.model.get_submodule("block1.norm").training
    assert setup.model.get_submodule("block2.norm").training


@pytest.mark.parametrize("name", ["block1.conv.weight", "block1.norm.running_mean"])
def test_a_frozen_tensor_that_moved_is_named(name: str) -> None:
    config = config_of(layers="block1")
    setup = setup_of(config)
    setup.model.state_dict()[name].flatten()[0] += 1e-6
    evidence = config.tricks[0].evidence(setup)
    assert evidence["unchanged"] is False
    assert evidence["moved"] == [name]


def test_an_interrupted_run_still_compares_with_its_first_weights(tmp_path: Path) -> None:
    lab, config = Lab.at(tmp_path), config_of(layers="block*")
    whole, resumed = lab.train(config), lab.add(config)
    lab.train_until(resumed, 3)
    with writing(lab.engine) as connection:
        queue.resume(connection, resumed)
    train_claimed(lab.claim(resumed), lab.settings)
    one, other = lab.points(whole, "train_loss"), lab.points(resumed, "train_loss")
    assert one.values.tolist() == other.values.tolist()
    assert lab.run(whole).evidence == lab.run(resumed).evidence
    assert lab.run(resumed).evidence["freeze"]["unchanged"] is True


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ("blok1", "no layer with weights is named 'blok1'; there are block1.conv"),
        ("block1, pool1", "named 'pool1'"),
        ("*", "nothing to train"),
        ("block*, head", "nothing to train"),
    ],
)
def test_layers_that_cannot_be_frozen_are_refused_in_the_form(layers: str, words: str) -> None:
    config = config_of(layers=layers)
    (problem,) = check(config)
    assert problem.field == "tricks.0.layers"
    assert words in problem.message
    with pytest.raises(Refused):
        setup_of(config)


def test_a_network_of_one_layer_is_refused() -> None:
    config = tiny_config(tricks=[Freeze().model_dump()], model={"name": "mlp", "hidden": ()})
    (problem,) = check(config)
    assert "it has to learn" in problem.message


def test_whoever_freezes_fresh_layers_is_warned() -> None:
    assert any(text.startswith("freeze: ") for text in facts(config_of()).warnings)
