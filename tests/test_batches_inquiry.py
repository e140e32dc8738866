"""The inquiry for first batches: what it tells is what a training sees."""

import base64
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import tiny_config

from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.inquiries import Batches, Bench
from trainer.inquiries.batches import MOST_LISTED, MOST_ORDER, MOST_PICTURES
from trainer.loop import Progress, train
from trainer.part import Refused
from trainer.recipes import recipe
from trainer.setup import Setup, StepOutcome
from trainer.tricks import in_order

FOLDERS = DataFolders(Path("nowhere"), download=False)
CPU = torch.device("cpu")
SHIFT = {"name": "random_shift", "pixels": 2}


def bench() -> Bench:
    return Bench(CPU, FOLDERS, lambda *told: None)


def answer(config: RunConfig, **asked: Any) -> Mapping[str, Any]:
    return Batches(config=config, **asked).answer(bench())


def trained_on(config: RunConfig, epochs: int) -> list[list[tuple[list[int], list[int]]]]:
    """The examples and targets of every batch that a real training of some epochs sees."""
    setup = build_setup(config, config.task.load(FOLDERS), CPU)
    for trick in in_order(config.tricks):
        trick.apply(setup)
    seen: list[list[tuple[list[int], list[int]]]] = [[] for _ in range(epochs)]
    step = setup.backward

    def looked_at(setup: Setup, window: Any) -> StepOutcome:
        for batch in window:
            seen[batch.epoch].append((batch.examples.tolist(), batch.targets.tolist()))
        return step(setup, window)

    setup.backward = looked_at
    setup.epochs = epochs
    setup.place()
    setup.start_fresh()
    train(setup, Progress(), Silent())
    return seen


class Silent:
    """A watch that looks away."""

    def lap(self, activity: str) -> None: ...

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        return False

    def after_epoch(self, progress: Progress) -> bool:
        return False


@pytest.mark.parametrize(
    "loader",
    [
        {},
        {"workers": 1},
        {"sampler": "class_balanced", "order_seed": 5},
        {"sampler": "sequential", "drop_last": True},
    ],
    ids=str,
)
def test_the_batches_are_those_that_a_training_sees(loader: Mapping[str, Any]) -> None:
    config = tiny_config(loader={"batch_size": 100, **loader}, seed=3, tricks=[SHIFT])
    seen = trained_on(config, epochs=2)
    for epoch in (0, 1):
        found = answer(config, epoch=epoch, batches=3)
        told = [(batch["indices"], list(map(int, batch["labels"]))) for batch in found["batches"]]
        assert told == seen[epoch][:3]
        order = [example for examples, _ in seen[epoch] for example in examples]
        assert found["order"] == order[:MOST_ORDER]
        targets = torch.tensor([target for _, own in seen[epoch] for target in own])
        assert found["counts"] == torch.bincount(targets, minlength=10).tolist()
        assert found["distinct_examples"] == len(set(order))
        assert (
            found["batches"][0]["counts"]
            == torch.bincount(torch.tensor(seen[epoch][0][1]), minlength=10).tolist()
        )
        assert found["is_resident"] == (not loader.get("workers"))


def pixels(picture: Mapping[str, Any]) -> torch.Tensor:
    raw = bytearray(base64.b64decode(picture["bytes"]))
    return torch.frombuffer(raw, dtype=torch.uint8).reshape(picture["shape"])


def test_pictures_show_what_is_stored_and_what_the_trick_made_of_it() -> None:
    config = tiny_config(loader={"batch_size": 100}, tricks=[SHIFT])
    found = answer(config, batches=2)
    data = config.task.load(FOLDERS)
    setup = build_setup(config, data, CPU)
    config.tricks[0].apply(setup)
    assert found["changed_by"] == ["random_shift"]
    for batch, real in zip(found["batches"], islice(setup.batches(setup, 0, 0), 2), strict=True):
        ready = setup.ready(real).inputs * data.spread + data.mean
        assert len(batch["shown"]) == MOST_PICTURES // 2 // 2
        for number, one in enumerate(batch["shown"]):
            stored = data.train.inputs[one["example"]].float() * 255 / 16
            assert torch.equal(pixels(one["before"]), stored.round().byte())
            moved = (ready[number] * 255 / 16).round().clamp(0, 255).byte()
            assert torch.equal(pixels(one["after"]), moved)


def test_without_such_a_trick_each_picture_is_shown_once() -> None:
    found = answer(tiny_config(loader={"batch_size": 100}), batches=1)
    assert found["changed_by"] == []
    assert len(found["batches"][0]["shown"]) == MOST_PICTURES
    assert set(found["batches"][0]["shown"][0]) == {"example", "before"}


def test_what_is_large_is_told_in_part() -> None:
    config = recipe("scenes-unet").config
    config = config.model_copy(
        update={"loader": config.loader.model_copy(update={"batch_size": 2000})}
    )
    found = answer(config, batches=1)
    (batch,) = found["batches"]
    assert batch["examples"] == 2000
    assert len(batch["indices"]) == len(batch["labels"]) == MOST_LISTED
    assert len(found["order"]) <= MOST_ORDER
    assert len(json.dumps(found)) < 500_000


def test_pictures_that_are_large_are_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.inquiries.batch_picture.LARGEST_SIDE", 4)
    found = answer(tiny_config(), batches=1)
    first = found["batches"][0]["shown"][0]
    assert first["before"]["shape"] == [1, 4, 4]
    stored = tiny_config().task.load(FOLDERS).train.inputs[first["example"]].float()
    halved = torch.nn.functional.avg_pool2d(stored, 2) * 255 / 16
    assert (pixels(first["before"]).float() - halved).abs().max() <= 0.5


@pytest.mark.parametrize(
    ("name", "classes"), [("breast-cancer-mlp", 2), ("diabetes-mlp", 0), ("scenes-unet", 11)]
)
def test_tables_and_scenes_have_labels_and_counts_of_their_own(name: str, classes: int) -> None:
    found = answer(recipe(name).config, batches=2)
    data = recipe(name).config.task.load(FOLDERS)
    first = found["batches"][0]
    assert len(found["counts"]) == classes
    if name == "diabetes-mlp":
        targets = data.train.targets[first["indices"]].flatten().tolist()
        assert list(map(float, first["labels"])) == pytest.approx(targets)
        assert len(first["shown"][0]["numbers"]) == 10
    if name == "breast-cancer-mlp":
        positive = data.train.targets[first["indices"]].flatten() > 0.5
        assert first["labels"] == [("malignant", "benign")[int(one)] for one in positive]
    if name == "scenes-unet":
        known = data.train.targets[data.train.targets != 255]
        assert found["stored_counts"] == torch.bincount(known, minlength=11).tolist()
        pixels_of = data.train.targets[first["indices"][0]]
        present = sorted(set(pixels_of.flatten().tolist()) - {0, 255})
        assert first["labels"][0] == " ".join(str(number - 1) for number in present)


def test_an_epoch_may_have_fewer_batches_than_are_asked_for() -> None:
    found = answer(tiny_config(loader={"batch_size": 1000}), batches=16)
    assert [batch["examples"] for batch in found["batches"]] == [1000, 437]


def test_what_cannot_be_built_is_refused_with_the_way_out() -> None:
    config = tiny_config().model_copy(update={"task": recipe("diabetes-mlp").config.task})
    with pytest.raises(Refused):
        answer(config)
