"""Offspring: runs made from a run, above all one that trains a finished one on."""

from pathlib import Path

import pytest
from lab import Lab, tiny_config

from app import offspring, queue
from app.models import Status
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.store.database import reading, writing
from trainer.store.reader import list_checkpoints, list_series


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


CONSTANT = {"name": "constant"}


def continued(lab: Lab, run_id: int, epochs: int) -> int:
    with writing(lab.engine) as connection:
        return offspring.continue_run(connection, lab.settings, run_id, epochs)


def curves(lab: Lab, run_id: int) -> dict[str, tuple[list[int], list[float]]]:
    with reading(lab.engine) as connection:
        # what is measured by the clock is never the same
        names = [row.name for row in list_series(connection, [run_id]) if row.unit != "s"]
    points = {name: lab.points(run_id, name) for name in names}
    return {name: (p.steps.tolist(), p.values.tolist()) for name, p in points.items()}


def test_a_run_trained_on_has_the_curves_of_one_that_was_longer_from_the_start(lab: Lab) -> None:
    config = tiny_config(schedule=CONSTANT, budget={"epochs": 2})
    finished = lab.train(config)
    before = curves(lab, finished), lab.run(finished)
    child = continued(lab, finished, 3)
    assert lab.run(child).parent_id == finished
    assert lab.run(child).config["budget"]["epochs"] == 5
    assert lab.events(child) == [("queued", f"continues run {finished} from step 8")]
    lab.train_claimed(child)
    longer = lab.train(tiny_config(schedule=CONSTANT, budget={"epochs": 5}))
    assert lab.run(child).status == Status.FINISHED
    assert curves(lab, child) == curves(lab, longer)
    for name in ("val_loss", "best_val_accuracy", "examples"):
        assert lab.run(child).result[name] == lab.run(longer).result[name]
    assert (curves(lab, finished), lab.run(finished)) == before, "the finished run stays"


def test_a_run_that_ended_by_its_budget_trains_on_without_it(lab: Lab) -> None:
    finished = lab.train(tiny_config(schedule=CONSTANT, budget={"epochs": 2, "steps": 6}))
    child = continued(lab, finished, 1)
    lab.train_claimed(child)
    assert lab.run(child).config["budget"]["steps"] is None
    assert lab.points(child, "train_loss").steps.tolist() == list(range(1, 13))


def test_the_child_lives_on_when_the_parent_is_deleted(lab: Lab) -> None:
    finished = lab.train(tiny_config(budget={"epochs": 1}))
    child = continued(lab, finished, 1)
    with writing(lab.engine) as connection:
        queue.remove(connection, finished)
    for file in (lab.settings.run_folder(finished) / "checkpoints").iterdir():
        file.unlink()
    lab.train_claimed(child)
    assert lab.points(child, "train_loss").steps.tolist() == list(range(1, 9))


def test_only_a_finished_run_with_a_whole_checkpoint_can_be_trained_on(lab: Lab) -> None:
    waiting = lab.add(tiny_config())
    with pytest.raises(Refused, match=f"run {waiting} is queued; only a finished run can be"):
        continued(lab, waiting, 1)
    finished = lab.train(tiny_config())
    with reading(lab.engine) as connection:
        files = [row.file for row in list_checkpoints(connection, finished)]
    for file in files:
        (lab.settings.run_folder(finished) / "checkpoints" / file).write_bytes(b"damaged")
    count = lab.add()
    with pytest.raises(Refused, match=f"run {finished} has no whole checkpoint on this machine"):
        continued(lab, finished, 1)
    assert lab.add() == count + 1, "nothing was added"


def test_a_clone_and_a_lighter_one_are_new_runs_that_name_their_parent(lab: Lab) -> None:
    config = tiny_config(loader={"batch_size": 90})
    run_id = lab.add(config, recipe="digits-cnn", priority=3)
    with writing(lab.engine) as connection:
        clone = offspring.clone(connection, run_id)
        light = offspring.retry_lighter(connection, run_id)
    for child, why in ((clone, f"cloned from run {run_id}"), (light, "with half the batch")):
        run = lab.run(child)
        assert (run.parent_id, run.recipe, run.priority) == (run_id, "digits-cnn", 3)
        assert why in lab.events(child)[0][1]
    assert RunConfig.model_validate(lab.run(clone).config) == config
    assert lab.run(light).config["loader"]["batch_size"] == 45
