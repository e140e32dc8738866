"""What another run has learned: where it is found, what is refused, and what a checkpoint says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, tiny_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from app.sources import LabSources, data_folders, missing_sources
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.setup import Setup
from trainer.sources import Trained, load_trained, trained_by


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


def sources_of(lab: Lab) -> LabSources:
    return LabSources(lab.settings)


def newest_file(lab: Lab, run_id: int) -> Path:
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    return max(folder.iterdir(), key=lambda path: path.name)


def rewritten(path: Path, without: str) -> None:
    """Save a checkpoint again with a part of what it says left out, as older programs did."""
    with safe_open(path, "pt") as file:
        state: Mapping[str, Any] = json.loads(file.metadata()["tricklab"])
    kept = {key: value for key, value in state.items() if key != without}
    save_file(load_file(path), path, {"tricklab": json.dumps(kept)})


# -- what a checkpoint says -----------------------------------------------------------------


def test_a_checkpoint_builds_the_model_of_its_run_without_the_database(lab: Lab) -> None:
    config = tiny_config(model={"width": 3})
    run_id = lab.train(config)
    trained = load_trained(newest_file(lab, run_id))
    assert (trained.run_id, trained.step) == (run_id, lab.run(run_id).step)
    again = RunConfig.model_validate(trained.config)
    assert again == config
    facts = again.task.facts()
    again.model.build(facts.input_shape, facts.outputs).load_state_dict(dict(trained.model))


def test_a_checkpoint_that_does_not_say_its_config_still_resumes(lab: Lab) -> None:
    from trainer.checkpoint import load_checkpoint

    config = tiny_config()
    path = newest_file(lab, lab.train(config))
    rewritten(path, without="config")
    data = config.task.load(lab.settings.data_folders)
    setup = build_setup(config, data, torch.device("cpu"))
    setup.place()
    progress, _ = load_checkpoint(path, setup)
    assert progress.step == 4


def test_a_checkpoint_that_does_not_say_its_config_is_no_source(lab: Lab) -> None:
    path = newest_file(lab, lab.train(tiny_config()))
    rewritten(path, without="config")
    with pytest.raises(Refused, match=r"older Tricklab .* train that run on"):
        load_trained(path)


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "step.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(Refused, match=r"step\.safetensors cannot be read"):
        load_trained(tmp_path / "step.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(Refused, match=r"other\.safetensors cannot be read"):
        load_trained(tmp_path / "other.safetensors")


# -- where it is found ----------------------------------------------------------------------


def test_a_run_is_found_by_number_by_name_and_as_the_newest_of_its_recipe(lab: Lab) -> None:
    first = lab.train(tiny_config(), name="mine", recipe="digits-cnn")
    second = lab.train(tiny_config(seed=1), recipe="digits-cnn")
    lab.add(tiny_config(), recipe="digits-cnn")
    sources = sources_of(lab)
    assert sources.checkpoint_of(str(first)) == newest_file(lab, first)
    assert sources.checkpoint_of("mine") == newest_file(lab, first)
    assert sources.checkpoint_of("recipe:digits-cnn") == newest_file(lab, second)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(lab: Lab) -> None:
    config = tiny_config(recording={"checkpoint_steps": 1})
    run_id = lab.train(config)
    newest = newest_file(lab, run_id)
    newest.write_bytes(newest.read_bytes()[:-1])
    found = sources_of(lab).checkpoint_of(str(run_id))
    assert found != newest
    assert load_trained(found).step < 4
    for path in found.parent.iterdir():
        path.unlink()
    with pytest.raises(Refused, match=f"run {run_id} has no whole checkpoint"):
        sources_of(lab).checkpoint_of(str(run_id))


def test_what_is_not_there_or_not_finished_is_refused_with_the_way_out(lab: Lab) -> None:
    waiting = lab.add(tiny_config(), name="waiting", recipe="digits-mlp")
    sources = sources_of(lab)
    for reference, words in {
        "77": "there is no run 77; name a run of this lab",
        "nobody": "there is no run nobody",
        "waiting": rf"run {waiting} \(waiting\) is queued, .* wait until it has finished",
        "recipe:digits-mlp": "no run of the recipe digits-mlp has finished yet; train it first",
        "recipe:nothing": "there is no recipe 'nothing'; there are digits-cnn",
    }.items():
        with pytest.raises(Refused, match=words):
            sources.checkpoint_of(reference)
    with pytest.raises(Refused, match="name a run by its number"):
        trained_by(sources, " ")


def test_every_setup_of_a_lab_knows_its_other_runs(lab: Lab) -> None:
    config = tiny_config()
    run_id = lab.train(config)
    folders = data_folders(lab.settings)
    data = config.task.load(folders)

    def trained(setup: Setup) -> Trained:
        return setup.trained(str(run_id))

    cpu = torch.device("cpu")
    assert trained(build_setup(config, data, cpu, folders.sources)).run_id == run_id
    with pytest.raises(Refused, match="train in a lab"):
        trained(build_setup(config, data, cpu))


def test_a_config_without_references_needs_no_other_run(lab: Lab) -> None:
    assert list(missing_sources(lab.engine, tiny_config())) == []
