"""The form of a run: generated from the config's classes, read back, and judged."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app import forms
from app.catalogue import KINDS
from trainer.config import RunConfig
from trainer.part import name_of
from trainer.recipes import RECIPES
from trainer.tricks import TRICKS


def filled(**changes: str) -> forms.Filled:
    """The form of the first recipe with some fields changed; `__` stands for a dot."""
    values = forms.values_of(RECIPES["digits-cnn"].config)
    return forms.of_items((values | dotted(changes)).items())


def dotted(changes: dict[str, str]) -> dict[str, str]:
    return {name.replace("__", "."): value for name, value in changes.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_through_the_form_unchanged(name: str) -> None:
    config = RECIPES[name].config
    assert forms.of_items(forms.values_of(config).items()).config == config


@given(
    rate=st.floats(1e-6, 1000, exclude_min=True),
    epochs=st.integers(1, 100_000),
    seconds=st.none() | st.floats(1e-3, 1e6),
    drop_last=st.booleans(),
    sampler=st.sampled_from(["shuffled", "sequential", "weighted", "class_balanced"]),
    class_weights=st.lists(st.floats(0, 1e6), max_size=5),
    order_seed=st.none() | st.integers(0, 2**53 - 1),
    seed=st.integers(0, 2**53 - 1),
    hidden=st.lists(st.integers(1, 512), max_size=5),
    tricks=st.sets(st.sampled_from([name_of(trick) for trick in TRICKS])),
)
@settings(deadline=None)
def test_any_config_goes_through_the_form_unchanged(
    rate: float,
    epochs: int,
    seconds: float | None,
    drop_last: bool,
    sampler: str,
    class_weights: list[float],
    order_seed: int | None,
    seed: int,
    hidden: list[int],
    tricks: set[str],
) -> None:
    assume(not {"deterministic", "cudnn_benchmark"} <= tricks)
    config = RunConfig.model_validate(
        {
            "model": {"name": "mlp", "hidden": hidden},
            "optimizer": {"name": "adamw", "learning_rate": rate},
            "loader": {
                "drop_last": drop_last,
                "sampler": sampler,
                "class_weights": class_weights,
                "order_seed": order_seed,
            },
            "budget": {"epochs": epochs, "seconds": seconds},
            "tricks": [{"name": name} for name in sorted(tricks)],
            "seed": seed,
        }
    )
    data = forms.config_data(forms.values_of(config))
    got = RunConfig.model_validate(data)
    assert got.model_dump(exclude={"tricks"}) == config.model_dump(exclude={"tricks"})
    assert {trick.name for trick in got.tricks} == tricks


def test_every_parameter_of_every_choice_has_a_field() -> None:
    for kind in forms.CHOICES:
        for part, shown in zip(KINDS[kind], forms.choice(kind).variants, strict=True):
            expected = {f"{kind}.{name_of(part)}.{field}" for field in part.model_fields}
            names = {one.name for one in shown.inputs}
            assert names == expected - {f"{kind}.{name_of(part)}.name"}
    assert {card.name for _, cards in forms.trick_cards() for _, card in cards} == {
        name_of(trick) for trick in TRICKS
    }


def test_every_field_says_what_it_is_for() -> None:
    shown = [one for name in (*forms.GROUPS, "run") for one in forms.group(name)]
    shown += [
        one for kind in forms.CHOICES for each in forms.choice(kind).variants for one in each.inputs
    ]
    assert [one.name for one in shown if not one.description] == []


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("optimizer.sgd.learning_rate", "-1", "greater than 0"),
        ("optimizer.sgd.learning_rate", "NaN", "finite"),
        ("optimizer.sgd.learning_rate", "inf", "finite"),
        ("optimizer.sgd.learning_rate", "", "valid number"),
        ("optimizer.sgd.learning_rate", "a lot", "valid number"),
        ("budget.epochs", "", "valid integer"),
        ("budget.epochs", "1.5", "valid integer"),
        ("budget.epochs", "99999999999999999999", "less than or equal"),
        ("loader.batch_size", "0", "greater than or equal to 1"),
        ("model.small_cnn.dropout", "1", "less than 1"),
        ("recording.layers", "conv9", "matches 'conv9'"),
        ("recording.layers", "a/b", "match pattern"),
        ("seed", "-3", "greater than or equal to 0"),
        ("device", "toaster", "match pattern"),
        ("optimizer.name", "magic", "sgd"),
    ],
)
def test_a_bad_value_is_refused_beside_its_field(field: str, typed: str, said: str) -> None:
    values = forms.values_of(RECIPES["digits-cnn"].config) | {field: typed}
    judged = forms.of_items(values.items())
    assert judged.config is None
    assert said in judged.error(field)
    assert judged.values[field] == typed, "what was typed is kept"


def test_errors_of_a_trick_stand_beside_its_own_fields() -> None:
    on = {"tricks__gradient_accumulation__on": "on"}
    bounds = filled(**on, tricks__gradient_accumulation__steps="1")
    assert "greater than or equal to 2" in bounds.error("tricks.gradient_accumulation.steps")
    too_long = filled(**on, tricks__gradient_accumulation__steps="1000")
    assert "lower steps" in too_long.error("tricks.gradient_accumulation.steps")
    idle = filled(model__name="mlp", recording__layers="*", tricks__cudnn_benchmark__on="on")
    assert "no convolution" in idle.error("tricks.cudnn_benchmark.on")


@pytest.mark.parametrize("field", ["loader.colour", "tricks.magic.on", "optimizer.sgd.colour"])
def test_an_unknown_field_is_refused_by_name(field: str) -> None:
    values = forms.values_of(RECIPES["digits-cnn"].config) | {field: "on"}
    judged = forms.of_items(values.items())
    assert judged.config is None
    assert field.split(".")[1] in judged.error(forms.WHOLE)


def test_a_switch_that_is_off_sends_its_hidden_field_alone() -> None:
    base: dict[str, Any] = forms.values_of(RECIPES["digits-cnn"].config)
    items = [item for item in base.items() if item[0] != "loader.drop_last"]
    off = forms.of_items([*items, ("loader.drop_last", "off")])
    on = forms.of_items([*items, ("loader.drop_last", "off"), ("loader.drop_last", "on")])
    assert off.config is not None
    assert not off.config.loader.drop_last
    assert on.config is not None
    assert on.config.loader.drop_last


def test_an_empty_optional_field_is_none() -> None:
    config = filled(budget__steps="", threads=" ").config
    assert config is not None
    assert config.budget.steps is None
    assert config.threads is None


def test_tricks_that_clash_are_named_both() -> None:
    judged = filled(tricks__deterministic__on="on", tricks__cudnn_benchmark__on="on")
    assert judged.config is None
    said = judged.error(forms.WHOLE)
    assert "deterministic" in said
    assert "cudnn_benchmark" in said
