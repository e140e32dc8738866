"""Distillation: an earlier run's model teaches another, which is scored by the true classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, tiny_config

from app.models import Status
from app.sources import data_folders
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.sources import load_trained
from trainer.tasks import DataFolders, Digits, Distillation, TaskData

QUICK: dict[str, Any] = {"optimizer": {"name": "adamw", "learning_rate": 0.02}}
TEACHER = tiny_config(model={"name": "mlp", "hidden": [32]}, budget={"epochs": 8}, **QUICK)
STUDENT: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [8]},
    "loss": {"name": "kl_div", "temperature": 4.0},
    "budget": {"epochs": 8},
    **QUICK,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    assert lab.run(lab.train(TEACHER, name="teacher")).status == Status.FINISHED
    return lab


def taught(lab: Lab, **task: Any) -> TaskData:
    return Distillation(teacher="teacher", **task).load(data_folders(lab.settings))


def test_targets_are_what_the_teacher_says_and_tests_are_the_truth(lab: Lab) -> None:
    data, digits = taught(lab), Digits().load(DataFolders(Path("nowhere")))
    assert torch.equal(data.train.inputs, digits.train.inputs)
    assert torch.equal(data.test.targets.argmax(1), digits.test.targets)
    assert set(data.test.targets.unique().tolist()) == {0.0, 1.0}
    setup = build_setup(TEACHER, digits, torch.device("cpu"))
    path = data_folders(lab.settings).sources.checkpoint_of("teacher")  # type: ignore[union-attr]
    setup.model.load_state_dict(dict(load_trained(path).model))
    inputs = (digits.train.inputs.float() - digits.mean) / digits.spread
    expected = setup.model.eval()(inputs).softmax(1)
    torch.testing.assert_close(data.train.targets, expected)
    assert 0.5 < expected.max(1).values.mean() < 1


def test_a_share_of_the_truth_is_mixed_in(lab: Lab) -> None:
    plain, mixed, truth = (taught(lab, label_share=share) for share in (0.0, 0.25, 1.0))
    labels = Digits().load(DataFolders(Path("nowhere"))).train.targets
    assert torch.equal(truth.train.targets.argmax(1), labels)
    expected = 0.75 * plain.train.targets + 0.25 * truth.train.targets
    torch.testing.assert_close(mixed.train.targets, expected)
    torch.testing.assert_close(mixed.train.targets.sum(1), torch.ones(len(labels)))


def test_a_student_is_trained_and_scored_by_the_true_classes(lab: Lab) -> None:
    task = {"name": "distillation", "teacher": "teacher"}
    run = lab.run(lab.train(tiny_config(task=task, **STUDENT)))
    assert run.status == Status.FINISHED, run.reason
    confusion = torch.tensor(run.result["details"]["confusion"])
    assert confusion.sum() == 360
    assert run.result["val_accuracy"] == confusion.diagonal().sum().item() / 360
    assert run.result["val_accuracy"] > 0.3


def test_a_teacher_that_is_not_there_is_refused_by_name(lab: Lab) -> None:
    task = {"name": "distillation", "teacher": "nobody"}
    run = lab.run(lab.train(tiny_config(task=task, **STUDENT)))
    assert (run.status, run.cause) == (Status.FAILED, "refused")
    assert "nobody" in run.reason


def test_a_teacher_of_other_data_is_refused(lab: Lab) -> None:
    sugar = RunConfig.model_validate(
        {
            "task": {"name": "diabetes"},
            "model": {"name": "mlp", "hidden": [4]},
            "loss": {"name": "mse"},
            "optimizer": {"name": "adamw"},
            "budget": {"epochs": 1},
        }
    )
    lab.train(sugar, name="sugar")
    with pytest.raises(Refused, match="learned diabetes, not all of digits"):
        Distillation(teacher="sugar").load(data_folders(lab.settings))


def test_without_a_lab_there_is_no_teacher() -> None:
    with pytest.raises(Refused, match="runs of a lab"):
        Distillation(teacher="1").load(DataFolders(Path("nowhere")))
