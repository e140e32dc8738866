"""The loader's options: what they say, what of them does not go together, and what torch gets."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, tiny_config
from pydantic import ValidationError

from app import forms
from trainer.batches import EpochOrder, LoadedBatches
from trainer.check import check, facts
from trainer.config import RunConfig
from trainer.loader import Loader, usable_cores
from trainer.part import Refused
from trainer.recipes import RECIPES
from trainer.tasks import TASKS
from trainer.tasks.base import Examples

CPU = torch.device("cpu")
TARGETS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)


def order(loader: Loader, epoch: int = 0, first: int = 0, seed: int = 0) -> list[list[int]]:
    """The batches of an epoch, as the examples they hold."""
    epochs = EpochOrder(loader, TARGETS, seed)
    epochs.start(epoch, first)
    return list(epochs)


def drawn(loader: Loader, epochs: int = 1, seed: int = 0) -> torch.Tensor:
    """The examples of some epochs, one after the other."""
    each = [itertools.chain(*order(loader, epoch, seed=seed)) for epoch in range(epochs)]
    return torch.tensor(list(itertools.chain(*each)))


# -- samplers -------------------------------------------------------------------------------

SAMPLERS: tuple[dict[str, Any], ...] = (
    {"sampler": "shuffled"},
    {"sampler": "sequential"},
    {"sampler": "weighted", "class_weights": (1, 0, 5)},
    {"sampler": "class_balanced"},
)


def test_shuffled_and_sequential_epochs_hold_every_example_once() -> None:
    assert drawn(Loader(sampler="sequential")).tolist() == list(range(100))
    shuffled = drawn(Loader(sampler="shuffled")).tolist()
    assert shuffled != list(range(100))
    assert sorted(shuffled) == list(range(100))


def test_an_epoch_is_as_long_whatever_draws_it() -> None:
    for sampler in SAMPLERS:
        assert len(drawn(Loader(**sampler))) == 100
        assert len(drawn(Loader(**sampler, batch_size=30, drop_last=True))) == 90


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_order_follows_from_seed_and_epoch_and_goes_on_at_any_batch(
    sampler: dict[str, Any],
) -> None:
    loader = Loader(**sampler, batch_size=7)
    whole = order(loader, epoch=3)
    assert order(loader, epoch=3) == whole
    for first in (1, 5, 14, 15):
        assert order(loader, epoch=3, first=first) == whole[first:]
    if loader.sampler != "sequential":
        assert order(loader, epoch=4) != whole
        assert order(loader, epoch=3, seed=1) != whole


def test_another_order_seed_moves_the_order_alone() -> None:
    assert order(Loader(order_seed=1)) == order(Loader(), seed=1) != order(Loader())
    own, other = (order(Loader(order_seed=1), seed=seed) for seed in (0, 5))
    assert own == other


def shares(examples: torch.Tensor) -> list[float]:
    """Of how many of them each class is the class."""
    return (torch.bincount(TARGETS[examples], minlength=3) / len(examples)).tolist()


def test_balanced_classes_come_equally_often_and_their_examples_too() -> None:
    examples = drawn(Loader(sampler="class_balanced"), epochs=300)
    # 30,000 draws: a share's standard deviation is 0.0027
    assert shares(examples) == pytest.approx([1 / 3] * 3, abs=0.012)
    rare = torch.bincount(examples, minlength=100)[90:]
    assert rare.tolist() == pytest.approx([1000] * 10, rel=0.15)


def test_weighted_classes_come_by_weight_times_count_and_never_at_weight_0() -> None:
    examples = drawn(Loader(sampler="weighted", class_weights=(1, 0, 3)), epochs=300)
    assert shares(examples) == pytest.approx([60 / 90, 0, 30 / 90], abs=0.012)
    assert shares(examples)[1] == 0


@pytest.mark.parametrize(
    "targets",
    [torch.zeros(9, 4, 4, dtype=torch.int64), torch.zeros(9, 1), torch.rand(9)],
    ids=["pixels", "yes or no", "numbers"],
)
def test_examples_without_one_class_each_cannot_be_drawn_by_class(targets: torch.Tensor) -> None:
    for loader in (Loader(sampler="class_balanced"), Loader(sampler="weighted", class_weights=[1])):
        with pytest.raises(Refused, match=r"draws by class, .* not of one class each; choose shuf"):
            EpochOrder(loader, targets, 0)
    assert len(EpochOrder(Loader(), targets, 0)) == 1


def test_weights_that_no_example_can_be_drawn_by_are_refused() -> None:
    with pytest.raises(Refused, match="class_weights are 2, and there are examples of class 2"):
        EpochOrder(Loader(sampler="weighted", class_weights=(1, 1)), TARGETS, 0)
    with pytest.raises(Refused, match="no training example is of a class with a weight"):
        EpochOrder(Loader(sampler="weighted", class_weights=(0, 0, 0, 1)), TARGETS, 0)


# -- what earlier versions said -------------------------------------------------------------


@pytest.mark.parametrize(
    ("shuffle", "sampler"),
    [(True, "shuffled"), (False, "sequential"), ("on", "shuffled"), ("off", "sequential")],
)
def test_shuffle_names_a_sampler(shuffle: object, sampler: str) -> None:
    config = RunConfig.model_validate({"loader": {"shuffle": shuffle, "batch_size": 7}})
    assert config.loader == Loader.model_validate({"sampler": sampler, "batch_size": 7})
    assert "shuffle" not in config.model_dump()["loader"]
    again = {"loader": {"shuffle": shuffle, "sampler": sampler, "batch_size": 7}}
    assert RunConfig.model_validate(again) == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shuffle": True, "sampler": "sequential"}, "means sampler='shuffled', and sampler is"),
        ({"shuffle": False, "sampler": "class_balanced"}, "leave shuffle out"),
        ({"shuffle": "perhaps"}, "shuffle is true or false; better, use sampler"),
    ],
)
def test_a_shuffle_that_means_something_else_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match="loader\n") as caught:
        RunConfig.model_validate({"loader": given})
    assert said in str(caught.value)


def test_a_form_may_still_say_shuffle() -> None:
    values = forms.values_of(RECIPES["digits-cnn"].config)
    del values["loader.sampler"]
    config = forms.of_items((values | {"loader.shuffle": "off"}).items()).config
    assert config is not None
    assert config.loader.sampler == "sequential"


def test_a_run_of_an_earlier_version_is_trained(tmp_path: Path) -> None:
    old = tiny_config().model_dump(mode="json")
    del old["loader"]["sampler"], old["loader"]["class_weights"], old["loader"]["in_order"]
    old["loader"]["shuffle"] = True
    lab = Lab.at(tmp_path)
    one, other = lab.train(RunConfig.model_validate(old)), lab.train(tiny_config())
    assert lab.points(one, "train_loss").values.tolist() == (
        lab.points(other, "train_loss").values.tolist()
    )


# -- what does not go together --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"timeout": 3}, "timeout", "set workers to 1 or more, or timeout to 0"),
        (
            {"multiprocessing_context": "spawn"},
            "multiprocessing_context",
            "spawn starts loader processes, and there are none",
        ),
        ({"class_weights": [1] * 10}, "class_weights", "shuffled draws without them"),
        (
            {"sampler": "class_balanced", "class_weights": [1] * 10},
            "class_weights",
            "class_balanced draws without them; choose weighted",
        ),
        ({"sampler": "weighted"}, "class_weights", "0 weights for 10 classes; write one per"),
        (
            {"sampler": "weighted", "class_weights": [1] * 9},
            "class_weights",
            "9 weights for 10 classes; write one per class: 0, 1, 2",
        ),
        ({"sampler": "weighted", "class_weights": [0] * 10}, "class_weights", "all weights are 0"),
        ({"batch_size": 5000, "drop_last": True}, "batch_size", "switch drop_last off"),
    ],
)
def test_what_torch_refuses_or_cannot_be_is_told_beside_its_field(
    changes: dict[str, Any], field: str, message: str
) -> None:
    (problem,) = check(tiny_config(loader=changes))
    assert problem.field == f"loader.{field}"
    assert message in problem.message
    assert problem.field in forms.field_names()


def test_only_examples_of_one_class_each_can_be_drawn_by_class() -> None:
    for task in TASKS:
        balanced = Loader(sampler="class_balanced")
        found = [field for field, _ in balanced.problems(task().facts())]
        assert found == ([] if task().facts().kind == "classes" else ["sampler"])


def test_a_run_that_promises_the_same_bits_takes_its_batches_in_order() -> None:
    tricks = [{"name": "deterministic"}]
    loader = {"in_order": False, "workers": 2}
    (problem,) = check(tiny_config(tricks=tricks, loader=loader))
    assert problem.field == "loader.in_order"
    assert check(tiny_config(tricks=tricks, loader={"workers": 2})) == ()
    assert check(tiny_config(loader=loader)) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loader": {"prefetch": 3}}, "no workers for prefetch to change"),
        (
            {"loader": {"prefetch": 3, "persistent_workers": False}},
            "for prefetch and persistent_workers to",
        ),
        ({"loader": {"in_order": False}}, "in_order off needs two workers"),
        ({"loader": {"in_order": False, "workers": 1}}, "in_order off needs two workers"),
        ({"loader": {"in_order": False, "workers": 2}}, "cannot be repeated exactly, and one resu"),
        ({"loader": {"workers": 1}, "device": "cpu"}, "pin_memory does nothing on cpu"),
        ({"loader": {"workers": 64}}, f"64 workers on the {usable_cores()} cores of this machine"),
        (
            {
                "loader": {"sampler": "class_balanced"},
                "loss": {"name": "cross_entropy", "weighting": "balanced"},
            },
            "class_balanced and cross_entropy with balanced weights both",
        ),
    ],
)
def test_what_does_nothing_or_not_as_meant_is_warned_of(changes: dict[str, Any], said: str) -> None:
    (warning,) = facts(tiny_config(**changes)).warnings
    assert said in warning


def test_what_is_as_meant_is_not_warned_of() -> None:
    for changes in (
        {"loader": {"workers": 1, "prefetch": 5, "persistent_workers": False}},
        {"loader": {"workers": 1, "pin_memory": False}, "device": "cpu"},
        {"loader": {"workers": 1}, "device": "cuda"},
        {"device": "cpu"},
        {"loader": {"sampler": "class_balanced"}},
    ):
        assert facts(tiny_config(**changes)).warnings == ()


def test_a_run_that_would_be_refused_is_refused_where_it_trains(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(tiny_config(loader={"sampler": "weighted"})))
    assert run.status == "failed"
    assert run.reason.startswith("loader.class_weights: 0 weights for 10 classes")


# -- what torch gets ------------------------------------------------------------------------


def torchs(loader: Loader, device: str = "cpu") -> torch.utils.data.DataLoader[Any]:
    examples = Examples(torch.zeros(100, 1), TARGETS)
    return LoadedBatches(EpochOrder(loader, TARGETS, 0), examples, torch.device(device)).loader


def test_every_option_reaches_torch() -> None:
    chosen = torchs(
        Loader(
            workers=2,
            prefetch=5,
            persistent_workers=False,
            pin_memory=False,
            in_order=False,
            timeout=9,
            multiprocessing_context="spawn",
        )
    )
    assert (chosen.num_workers, chosen.prefetch_factor, chosen.timeout) == (2, 5, 9)
    assert (chosen.persistent_workers, chosen.pin_memory, chosen.in_order) == (False,) * 3
    assert chosen.multiprocessing_context.get_start_method() == "spawn"
    usual = torchs(Loader(workers=1))
    assert (usual.prefetch_factor, usual.timeout, usual.persistent_workers) == (2, 0, True)
    assert usual.in_order
    assert usual.multiprocessing_context is None


def test_without_workers_torch_is_asked_for_nothing_that_needs_them() -> None:
    idle = torchs(Loader(prefetch=5, timeout=9, multiprocessing_context="spawn", in_order=False))
    assert (idle.num_workers, idle.prefetch_factor, idle.timeout) == (0, None, 0)
    assert len(list(idle)) == 2
