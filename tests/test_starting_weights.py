"""Starting weights: what is taken from another run, what is not, and that it is told."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from lab import Lab, changed, tiny_config
from safetensors.torch import load_file
from server import client_of

from app import forms
from app.models import Status
from app.sources import data_folders
from trainer.build import build_setup, initial_model
from trainer.check import check, facts
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.recipes import RECIPES
from trainer.setup import Setup

CPU = torch.device("cpu")
SOURCE: dict[str, Any] = {"seed": 5, "model": {"name": "small_cnn", "width": 2}}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """With a finished run to take weights from."""
    lab = Lab.at(tmp_path)
    lab.train(tiny_config(**SOURCE), name="source", recipe="digits-cnn")
    return lab


@pytest.fixture
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


def config_of(**how: Any) -> RunConfig:
    changes = {key: how.pop(key) for key in ("model", "seed", "task") if key in how}
    trick = {"name": "starting_weights", "source": "source", **how}
    return tiny_config(tricks=[trick], **changes)


def setup_of(lab: Lab, config: RunConfig) -> Setup:
    folders = data_folders(lab.settings)
    setup = build_setup(config, config.task.load(folders), CPU, folders.sources)
    for trick in config.tricks:
        trick.apply(setup)
    setup.place()
    setup.start_fresh()
    return setup


def weights_of(lab: Lab, run_id: int) -> dict[str, torch.Tensor]:
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    tensors = load_file(max(folder.iterdir(), key=lambda path: path.name))
    return {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}


def fresh(config: RunConfig) -> dict[str, torch.Tensor]:
    task = config.task.facts()
    return initial_model(config, task.input_shape, task.outputs).state_dict()


def test_weights_and_statistics_are_those_of_the_source_and_the_head_is_fresh(lab: Lab) -> None:
    config = config_of()
    setup = setup_of(lab, config)
    source, own = weights_of(lab, 1), fresh(config)
    for name, tensor in setup.model.state_dict().items():
        there = own if name.startswith("head.") else source
        assert torch.equal(tensor, there[name]), name
    evidence = config.tricks[0].evidence(setup)
    assert (evidence["run"], evidence["step"]) == (1, 4)
    assert evidence["loaded"]["tensors"] == len(own) - 2
    assert evidence["left_out"] == {"tensors": 2, "names": ["head.weight", "head.bias"]}
    assert [evidence[key]["tensors"] for key in ("skipped", "missing", "unused")] == [0, 0, 0]
    learned = sum(p.numel() for name, p in setup.model.named_parameters() if "head" not in name)
    assert evidence["loaded_weights"] == learned


def test_the_optimizer_trains_the_very_weights_that_were_taken(lab: Lab) -> None:
    setup = setup_of(lab, config_of())
    held = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in setup.model.parameters()}


def test_a_head_is_taken_where_a_person_wants_it(lab: Lab) -> None:
    setup = setup_of(lab, config_of(new_head=False))
    source = weights_of(lab, 1)
    assert torch.equal(setup.model.state_dict()["head.weight"], source["head.weight"])


def test_only_the_layers_that_are_named_are_taken(lab: Lab) -> None:
    config = config_of(layers="block1, *.norm")
    setup = setup_of(lab, config)
    own, source = fresh(config), weights_of(lab, 1)
    taken = setup.model.state_dict()
    assert torch.equal(taken["block1.conv.weight"], source["block1.conv.weight"])
    assert torch.equal(taken["block3.norm.running_mean"], source["block3.norm.running_mean"])
    assert torch.equal(taken["block2.conv.weight"], own["block2.conv.weight"])
    left = config.tricks[0].evidence(setup)["left_out"]["names"]
    assert left == ["block2.conv.weight", "block3.conv.weight", "head.weight", "head.bias"]


def test_what_has_another_shape_stays_fresh_and_both_shapes_are_told(lab: Lab) -> None:
    # the pictures of Fashion-MNIST are larger: a head on top of them has more inputs
    config = config_of(new_head=False, task={"name": "fashion_mnist"})
    data = tiny_config().task.load(lab.settings.data_folders)
    folders = data_folders(lab.settings)
    setup = build_setup(config, data, CPU, folders.sources)
    config.tricks[0].apply(setup)
    setup.place()
    setup.start_fresh()
    evidence = config.tricks[0].evidence(setup)
    assert evidence["skipped"]["names"] == ["head.weight: 10x16 there, 10x196 here"]
    assert torch.equal(setup.model.state_dict()["head.weight"], fresh(config)["head.weight"])


def test_what_only_one_side_has_is_told(lab: Lab) -> None:
    setup = setup_of(lab, config_of())
    setup.model.add_module("extra", torch.nn.Linear(2, 2))
    del setup.model.block3  # type: ignore[union-attr]
    trick = config_of(new_head=False).tricks[0]
    report = trick.take(setup)  # type: ignore[union-attr]
    assert report["missing"]["names"] == ["extra.weight", "extra.bias"]
    assert report["unused"]["names"][0] == "block3.conv.weight"
    assert report["unused"]["tensors"] == 6


def test_a_source_of_which_nothing_fits_is_refused_with_the_first_shapes(lab: Lab) -> None:
    run = lab.run(lab.train(config_of(model={"width": 3})))
    assert run.status == Status.FAILED
    assert "nothing of run 1 fits this model; block1.conv.weight: 2x1x3x3 there" in run.reason
    run = lab.run(lab.train(config_of(model={"name": "mlp"})))
    assert "nothing of run 1 fits this model; choose a run" in run.reason


def test_weights_that_are_no_numbers_are_refused_by_name(lab: Lab) -> None:
    setup = setup_of(lab, config_of())
    found = setup.trained("source")
    broken = {**found.model, "block2.conv.weight": torch.full((4, 2, 3, 3), math.nan)}
    setup.trained = lambda reference: replace(found, model=broken)
    with pytest.raises(Refused, match=r"block2\.conv\.weight of run 1 holds NaN or infinity"):
        setup.start_fresh()


def test_a_run_that_resumes_does_not_need_its_source_any_more(lab: Lab) -> None:
    whole, resumed = lab.train(config_of()), lab.add(config_of())
    lab.train_until(resumed, 2)
    for path in (lab.settings.run_folder(1) / "checkpoints").iterdir():
        path.unlink()
    lab.resume(resumed)
    lab.train_claimed(resumed)
    assert lab.run(resumed).status == Status.FINISHED
    one, other = lab.points(whole, "train_loss"), lab.points(resumed, "train_loss")
    assert one.values.tolist() == other.values.tolist()
    assert math.isfinite(one.values[-1])
    assert lab.run(whole).evidence == lab.run(resumed).evidence


def test_what_was_frozen_after_it_was_taken_counts_as_unmoved(lab: Lab) -> None:
    config = config_of(layers="block1")
    both = config.model_dump()["tricks"]
    frozen = tiny_config(tricks=[*both, {"name": "freeze", "layers": "block1"}])
    run_id = lab.train(frozen)
    assert lab.run(run_id).evidence["freeze"]["unchanged"] is True
    kept, source = weights_of(lab, run_id), weights_of(lab, 1)
    names = [name for name in source if name.startswith("block1.")]
    assert all(torch.equal(kept[name], source[name]) for name in names)


def test_the_recipes_of_transfer_find_the_newest_half_and_learn_the_other(tmp_path: Path) -> None:
    lab, transfer = Lab.at(tmp_path), RECIPES["digits-transfer"].config
    run = lab.run(lab.train(transfer))
    assert run.status == Status.FAILED
    assert "no run of the recipe digits-half has finished yet; train it first" in run.reason
    quick = changed(RECIPES["digits-half"].config, budget={"epochs": 2})
    half = lab.train(quick, recipe="digits-half")
    run = lab.run(lab.train(transfer))
    assert (run.status, run.reason) == (Status.FINISHED, "")
    assert run.evidence["starting_weights"]["run"] == half
    assert run.evidence["freeze"]["unchanged"] is True
    assert len(run.evidence["freeze"]["thawed"]) == 1
    scratch = RECIPES["digits-scratch"].config
    assert scratch.model_dump(exclude={"tricks"}) == transfer.model_dump(exclude={"tricks"})


@pytest.mark.parametrize(
    ("how", "field", "words"),
    [
        ({"source": " "}, "source", "name a run by its number or its name"),
        ({"layers": "blok1"}, "layers", "no layer with weights is named 'blok1'"),
        ({"layers": "head"}, "layers", "nothing to take but head"),
    ],
)
def test_what_can_be_told_before_is_refused_beside_its_field(
    how: dict[str, str], field: str, words: str
) -> None:
    (problem,) = check(config_of(**how))
    assert problem.field == f"tricks.0.{field}"
    assert words in problem.message


def test_a_run_that_does_not_exist_is_refused_when_it_is_queued(
    lab: Lab, client: TestClient
) -> None:
    for source, words in {"nobody": "there is no run nobody", "recipe:x": "no recipe 'x'"}.items():
        config = config_of(source=source).model_dump(mode="json")
        answer = client.post("/api/v1/runs", json={"config": config})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == "config.tricks.0.source"
        assert words in error["message"]
        (problem,) = client.post("/api/v1/check", json={"config": config}).json()["problems"]
        assert problem["field"] == "tricks.0.source"
    waiting = config_of(source="recipe:digits-mlp").model_dump(mode="json")
    assert client.post("/api/v1/runs", json={"config": waiting}).status_code == 201


def test_the_form_shows_beside_the_source_that_there_is_no_such_run(client: TestClient) -> None:
    values = forms.of_config(config_of(source="nobody")).values
    errors = client.post("/runs/new/check", data=dict(values)).json()["errors"]
    assert "there is no run nobody" in errors["tricks.starting_weights.source"]
    answer = client.post("/runs/new", data=dict(values))
    assert answer.status_code == 422
    assert "there is no run nobody" in answer.text


def test_whoever_freezes_what_was_trained_before_is_not_warned() -> None:
    config = config_of()
    frozen = RunConfig.model_validate(
        config.model_dump() | {"tricks": [*config.model_dump()["tricks"], {"name": "freeze"}]}
    )
    assert not any(text.startswith("freeze: ") for text in facts(frozen).warnings)
    with pytest.raises(Refused):
        setup_of_nothing(frozen)


def setup_of_nothing(config: RunConfig) -> None:
    from trainer.data_folders import DataFolders

    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(config, data, CPU)
    config.tricks[0].apply(setup)
    setup.place()
    setup.start_fresh()
