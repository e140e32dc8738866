"""Configs: what a person may choose, what is refused and why, and that it survives as JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import changed, tiny_config
from pydantic import BaseModel, ValidationError

from trainer.config import Budget, Recording, RunConfig
from trainer.loader import Loader
from trainer.losses import LOSSES
from trainer.models import MODELS, Mlp, ResNet20, SmallCnn
from trainer.optimizers import OPTIMIZERS, AdamW, Sgd
from trainer.schedules import SCHEDULES, Constant, Cosine, OneCycle
from trainer.tasks import TASKS
from trainer.tricks import (
    TRICKS,
    CudnnBenchmark,
    Deterministic,
    Freeze,
    GradientAccumulation,
    RandomShift,
    Seed,
    name_of,
)


def refusal(**changes: Any) -> list[tuple[str, str]]:
    """Field and message of everything that is wrong with the default config so changed."""
    with pytest.raises(ValidationError) as caught:
        changed(RunConfig(), **changes)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"loader": {"batchsize": 3}}, "loader.batchsize"),
        ({"model": {"name": "mlp", "width": 3}}, "model.mlp.width"),
        ({"optimizer": {"beta1": 0.5}}, "optimizer.sgd.beta1"),
        ({"tricks": [{"name": "seed", "seed": 3}]}, "tricks.0.seed.seed"),
    ],
)
def test_an_unknown_field_is_refused_by_its_place(changes: dict[str, Any], field: str) -> None:
    assert refusal(**changes) == [(field, "Extra inputs are not permitted")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"])
@pytest.mark.parametrize(
    ("part", "field", "place"),
    [
        ("optimizer", "learning_rate", "optimizer.sgd.learning_rate"),
        ("model", "dropout", "model.small_cnn.dropout"),
        ("budget", "seconds", "budget.seconds"),
        ("loss", "label_smoothing", "loss.cross_entropy.label_smoothing"),
    ],
)
def test_a_number_that_is_none_is_refused(value: Any, part: str, field: str, place: str) -> None:
    ((where, why),) = refusal(**{part: {field: value}})
    assert where == place
    assert "finite number" in why


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"optimizer": {"learning_rate": -0.1}}, "optimizer.sgd.learning_rate", "greater than 0"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.sgd.learning_rate", "greater than 0"),
        ({"optimizer": {"momentum": 1}}, "optimizer.sgd.momentum", "less than 1"),
        ({"loader": {"batch_size": 0}}, "loader.batch_size", "greater than or equal to 1"),
        ({"loader": {"batch_size": 1.5}}, "loader.batch_size", "valid integer"),
        ({"budget": {"epochs": 0}}, "budget.epochs", "greater than or equal to 1"),
        ({"budget": {"steps": 10**10}}, "budget.steps", "less than or equal to 1000000000"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**53}, "seed", "less than"),
        ({"model": {"name": "resnet20", "width": 15}}, "model.resnet20.width", "multiple of 2"),
        ({"device": "gpu"}, "device", "pattern"),
        ({"device": "cpu\n"}, "device", "pattern"),
        ({"recording": {"layers": ["a b"]}}, "recording.layers.0", "pattern"),
        ({"recording": {"layers": ["../x"]}}, "recording.layers.0", "pattern"),
        ({"schedule": {"name": "cosine", "warmup": 0.95}}, "schedule.cosine.warmup", "0.9"),
        ({"tricks": [{"name": "gradient_accumulation", "steps": 1}]}, None, "equal to 2"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_them(
    changes: dict[str, Any], field: str | None, why: str
) -> None:
    ((where, message),) = refusal(**changes)
    assert where == (field or "tricks.0.gradient_accumulation.steps")
    assert why in message


def test_nesterov_without_momentum_says_what_to_do() -> None:
    ((_, message),) = refusal(optimizer={"momentum": 0})
    assert "nesterov looks ahead along the momentum, which is 0; switch nesterov off" in message


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("task", TASKS),
        ("model", MODELS),
        ("loss", LOSSES),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(
    part: str, kinds: tuple[type[BaseModel], ...]
) -> None:
    ((where, message),) = refusal(**{part: {"name": "nope"}})
    assert where == part
    for kind in kinds:
        assert repr(kind.model_fields["name"].default) in message


def test_an_unknown_trick_is_refused_with_those_there_are() -> None:
    ((where, message),) = refusal(tricks=[{"name": "seed"}, {"name": "nope"}])
    assert where == "tricks.1"
    assert "'nope'" in message
    for trick in TRICKS:
        assert f"'{name_of(trick)}'" in message


def test_tricks_that_clash_are_refused_with_both_names_and_the_reason() -> None:
    ((where, message),) = refusal(tricks=[{"name": "cudnn_benchmark"}, {"name": "deterministic"}])
    assert where == ""
    assert message == (
        "Value error, deterministic and cudnn_benchmark clash: the search times candidates, and "
        "the winner differs from run to run; keep one"
    )


def test_every_reason_is_given_at_once() -> None:
    given = [{"name": name} for name in ("seed", "seed", "deterministic", "cudnn_benchmark")]
    ((_, message),) = refusal(tricks=given)
    assert "seed is chosen twice; keep one" in message
    assert "deterministic and cudnn_benchmark clash" in message


def test_a_config_cannot_be_changed() -> None:
    config = tiny_config(tricks=[{"name": "seed"}])
    for part in (config, config.model, config.loader, config.optimizer, config.tricks[0]):
        field = next(iter(type(part).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, field, None)


# -- as JSON --------------------------------------------------------------------------------

shares = st.floats(0, 0.9)
rates = st.floats(1e-12, 1000)
models = (
    st.builds(Mlp, hidden=st.lists(st.integers(1, 999), max_size=4).map(tuple), dropout=shares)
    | st.builds(SmallCnn, width=st.integers(1, 512), dropout=shares)
    | st.builds(ResNet20, width=st.integers(1, 128).map(lambda half: 2 * half))
)
optimizers = st.builds(
    Sgd,
    learning_rate=rates,
    weight_decay=st.floats(0, 10),
    momentum=shares,
    nesterov=st.just(False),
) | st.builds(AdamW, learning_rate=rates, beta1=shares, beta2=shares, epsilon=st.floats(1e-300, 1))
schedules = (
    st.builds(Constant, warmup=shares)
    | st.builds(Cosine, warmup=shares, final=st.floats(0, 1))
    | st.builds(OneCycle, warmup=st.floats(0.01, 0.99), initial=st.floats(1e-9, 1))
)
tricks = st.lists(
    st.builds(Seed)
    | st.builds(Deterministic, warn_only=st.booleans())
    | st.builds(RandomShift, pixels=st.integers(1, 256), flip=st.booleans())
    | st.builds(Freeze, layers=st.sampled_from(["", "block1", "*.norm, head"]))
    | st.builds(GradientAccumulation, steps=st.integers(2, 1024)),
    unique_by=type,
    max_size=4,
) | st.builds(CudnnBenchmark, limit=st.integers(0, 1000)).map(lambda trick: [trick])
configs = st.builds(
    RunConfig,
    model=models,
    optimizer=optimizers,
    schedule=schedules,
    tricks=tricks.map(tuple),
    loader=st.builds(Loader, batch_size=st.integers(1, 65_536), drop_last=st.booleans()),
    recording=st.builds(
        Recording, layers=st.lists(st.sampled_from(["*", "block?.conv", "head"])).map(tuple)
    ),
    budget=st.builds(
        Budget,
        steps=st.none() | st.integers(1, 10**9),
        seconds=st.none() | st.floats(1e-9, 10**7),
    ),
    seed=st.integers(0, 2**53 - 1),
    device=st.sampled_from(["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:15"]),
    threads=st.none() | st.integers(1, 1024),
)


@given(configs)
@settings(max_examples=100, deadline=None)
def test_a_config_is_the_same_after_a_journey_as_json(config: RunConfig) -> None:
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    # as the database keeps it, and as a browser sends it back
    text = json.dumps(config.model_dump(mode="json"), allow_nan=False)
    assert RunConfig.model_validate(json.loads(text)) == config


def test_the_default_config_is_the_same_for_everybody() -> None:
    config = RunConfig()
    names = (config.task.name, config.model.name, config.optimizer.name, config.schedule.name)
    assert names == ("digits", "small_cnn", "sgd", "one_cycle")
    assert (config.tricks, config.seed, config.device) == ((), 0, "auto")
