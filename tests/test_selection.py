"""Selections: some classes and few examples of a data set, told right before it is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainer.data_folders import DataFolders
from trainer.tasks import Digits, FashionMnist
from trainer.tasks.digits import read_digits
from trainer.tasks.fashion_mnist import DEBIAN_FOLDER, is_complete
from trainer.tasks.selection import SelectableTask, quotas

HERE = DataFolders(Path("nowhere"), download=False)
fashion_is_here = pytest.mark.skipif(
    not is_complete(DEBIAN_FOLDER), reason="needs the Debian package dataset-fashion-mnist"
)


def counts(targets: torch.Tensor, classes: int) -> list[int]:
    return torch.bincount(targets, minlength=classes).tolist()


@pytest.mark.parametrize(
    "task",
    [Digits(), pytest.param(FashionMnist(), marks=fashion_is_here)],
    ids=["digits", "fashion"],
)
def test_the_counts_that_are_written_down_are_those_of_the_data(task: SelectableTask) -> None:
    data = task.load(HERE)
    assert counts(data.train.targets, 10) == list(task.train_counts)
    assert counts(data.test.targets, 10) == list(task.test_counts)


@pytest.mark.parametrize(
    "chosen",
    [
        {"classes": (5, 6, 7, 8, 9)},
        {"classes": (9, 0)},
        {"classes": (3, 4, 5), "most_examples": 31},
        {"most_examples": 1000},
        {"most_examples": 50_000},
    ],
)
def test_facts_tell_what_will_be_read(chosen: dict[str, Any]) -> None:
    task = Digits(**chosen)
    facts, data = task.facts(), task.load(HERE)
    assert (len(data.train), len(data.test)) == (facts.train_examples, facts.test_examples)
    assert facts.outputs == len(facts.classes) == int(data.train.targets.max()) + 1
    names = task.classes or range(10)
    assert facts.classes == tuple(map(str, names))


def test_chosen_classes_keep_their_pictures_and_are_counted_anew() -> None:
    train, test = read_digits()
    data = Digits(classes=(9, 0)).load(HERE)
    for all_of_them, chosen in ((train, data.train), (test, data.test)):
        for number, digit in enumerate((9, 0)):
            of_digit = all_of_them.inputs[all_of_them.targets == digit]
            assert torch.equal(chosen.inputs[chosen.targets == number], of_digit)


def test_few_examples_are_as_many_of_each_class_and_always_the_same() -> None:
    few = Digits(classes=(5, 6, 7, 8, 9), most_examples=22).load(HERE).train
    assert counts(few.targets, 5) == [5, 5, 4, 4, 4]
    again = Digits(classes=(5, 6, 7, 8, 9), most_examples=22).load(HERE).train
    assert torch.equal(few.inputs, again.inputs)
    # fewer of them are some of the same
    fewer = Digits(classes=(5, 6, 7, 8, 9), most_examples=10).load(HERE).train
    known = {picture.numpy().tobytes() for picture in few.inputs}
    assert all(picture.numpy().tobytes() in known for picture in fewer.inputs)


def test_the_test_set_does_not_depend_on_how_many_are_learned_from() -> None:
    all_of_them, few = Digits().load(HERE), Digits(most_examples=20).load(HERE)
    assert torch.equal(all_of_them.test.inputs, few.test.inputs)
    assert (all_of_them.mean, all_of_them.spread) == (few.mean, few.spread)


@pytest.mark.parametrize(
    ("present", "most", "expected"),
    [
        ([10, 10, 10], 9, [3, 3, 3]),
        ([10, 10, 10], 11, [4, 4, 3]),
        ([2, 10, 10], 12, [2, 5, 5]),
        ([0, 1, 100], 50, [0, 1, 49]),
        ([5, 5], 100, [5, 5]),
        ([5, 5], None, [5, 5]),
    ],
)
def test_shares_are_as_equal_as_what_is_there_allows(
    present: Sequence[int], most: int | None, expected: list[int]
) -> None:
    assert quotas(present, most) == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"classes": (1, 1)}, "names one twice"),
        ({"classes": (1,)}, "nothing to tell apart"),
        ({"classes": (1, 10)}, "less than or equal to 9"),
        ({"classes": (1, 2, 3), "most_examples": 2}, "at least one"),
        ({"most_examples": 9}, "for 10 classes"),
    ],
)
def test_a_selection_that_is_none_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Digits(**wrong)


@fashion_is_here
def test_half_of_fashion_mnist_is_half_of_it() -> None:
    task = FashionMnist(classes=(5, 6, 7, 8, 9), most_examples=100)
    facts, data = task.facts(), task.load(HERE)
    assert facts.classes == ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    assert (facts.train_examples, facts.test_examples) == (100, 5_000)
    assert counts(data.train.targets, 5) == [20] * 5
    assert len(data.test) == 5_000
