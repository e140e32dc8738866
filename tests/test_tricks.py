"""Every trick in the catalogue, alone and in pairs, and what each of them promises."""

import dataclasses
import itertools
import json
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab, tiny_config
from pydantic import ValidationError

from app.models import Status
from trainer.build import build_setup
from trainer.check import check
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.setup import Setup
from trainer.store.database import finite
from trainer.streams import stream_seed
from trainer.tasks import DataFolders
from trainer.tricks import (
    TRICKS,
    CudnnBenchmark,
    Deterministic,
    Exactness,
    GradientAccumulation,
    Seed,
    Stage,
    StartingWeights,
    Trick,
    clashes,
    in_order,
    name_of,
)
from trainer.tricks.deterministic import CUBLAS
from trainer.tricks.seed import seeded

NAMES = [name_of(trick) for trick in TRICKS]
every_trick = pytest.mark.parametrize("trick", TRICKS, ids=NAMES)


NEEDED: dict[str, dict[str, Any]] = {"starting_weights": {"source": "source"}}
"""What tricks must be told that cannot do without."""


def usable(trick: type[Trick]) -> Trick:
    return trick(**NEEDED.get(name_of(trick), {}))


def lab_for(folder: Path, *tricks: type[Trick]) -> Lab:
    """A lab, with a finished run where one of the tricks takes something from it."""
    lab = Lab.at(folder)
    if StartingWeights in tricks:
        lab.train(tiny_config(seed=5), name="source")
    return lab


def with_tricks(*tricks: Trick | type[Trick], **changes: Any) -> RunConfig:
    chosen = [usable(trick) if isinstance(trick, type) else trick for trick in tricks]
    return tiny_config(tricks=[trick.model_dump() for trick in chosen], **changes)


def setup_of(config: RunConfig) -> Setup:
    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    return build_setup(config, data, torch.device("cpu"))


# -- the contract of every trick ------------------------------------------------------------


@every_trick
def test_a_trick_says_what_it_claims_and_what_goes_wrong(trick: type[Trick]) -> None:
    assert trick.title
    assert isinstance(trick.stage, Stage)
    assert isinstance(trick.exactness, Exactness)
    measures = {"train_seconds", "peak_memory_bytes", "accuracy", "reproducibility"}
    assert trick.claim.measure in measures
    assert trick.claim.source
    assert trick.helps
    assert trick.cost.endswith(".")
    assert trick.sources
    assert trick.traps
    assert all(trap.endswith(".") for trap in trick.traps)
    assert trick.__doc__
    assert trick.__doc__ != Trick.__doc__
    assert "\n\n" in trick.__doc__, "a first sentence, and then what lies behind it"


@every_trick
def test_a_tricks_parameters_are_described_and_bounded(trick: type[Trick]) -> None:
    for name, schema in trick.model_json_schema()["properties"].items():
        if name == "name":
            continue
        assert len(schema.get("description", "")) > 10, name
        assert "default" in schema, name
        if schema.get("type") in ("integer", "number"):
            assert schema.keys() & {"minimum", "exclusiveMinimum"}, name
            assert schema.keys() & {"maximum", "exclusiveMaximum"}, name
        else:
            bounds = {"enum"} if schema["type"] != "string" else {"enum", "pattern"}
            assert schema["type"] == "boolean" or schema.keys() & bounds, name


@every_trick
def test_a_trick_replaces_only_the_slots_it_owns(trick: type[Trick]) -> None:
    fields = {field.name for field in dataclasses.fields(Setup)}
    assert trick.owns <= fields
    config = with_tricks(trick)
    setup = setup_of(config)
    before = {name: getattr(setup, name) for name in fields - {"optimizer"}}
    config.tricks[0].apply(setup)
    replaced = {name for name, value in before.items() if getattr(setup, name) is not value}
    assert replaced == trick.owns


@every_trick
def test_a_trick_trains_and_shows_what_it_did(trick: type[Trick], tmp_path: Path) -> None:
    lab = lab_for(tmp_path, trick)
    run = lab.run(lab.train(with_tricks(trick)))
    assert (run.status, run.reason) == (Status.FINISHED, "")
    assert list(run.evidence) == [name_of(trick)]
    evidence = run.evidence[name_of(trick)]
    assert evidence
    assert json.loads(json.dumps(finite(evidence))) == evidence


NOTHING_TO_CHANGE: dict[str, dict[str, Any]] = {
    "cudnn_benchmark": {"model": {"name": "mlp"}},
    "freeze": {"tricks": [{"name": "freeze", "layers": "*"}]},
    "gradient_accumulation": {"loader": {"batch_size": 2000}},
    "layerwise_learning_rate": {"tricks": [{"name": "layerwise_learning_rate", "decay": 1}]},
    "random_shift": {"tricks": [{"name": "random_shift", "pixels": 8}]},
    "starting_weights": {
        "tricks": [{"name": "starting_weights", "source": "source", "layers": "head"}]
    },
}
ALWAYS_CHANGES = {"seed", "deterministic"}


@every_trick
def test_a_trick_with_nothing_to_change_refuses(trick: type[Trick], tmp_path: Path) -> None:
    name = name_of(trick)
    if name in ALWAYS_CHANGES:
        assert name not in NOTHING_TO_CHANGE
        return
    config = tiny_config(**{"tricks": [{"name": name}], **NOTHING_TO_CHANGE[name]})
    with pytest.raises(Refused, match=name):
        config.tricks[0].apply(setup_of(config))
    lab = lab_for(tmp_path, trick)
    run = lab.run(lab.train(config))
    assert run.status == Status.FAILED
    assert run.reason.startswith("tricks.0.")


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(TRICKS, 2)], ids=name_of)
def test_two_tricks_train_and_resume_together_or_are_refused_with_both_names(
    one: type[Trick], other: type[Trick], tmp_path: Path
) -> None:
    if reasons := clashes([usable(one), usable(other)]):
        with pytest.raises(ValidationError) as refusal:
            with_tricks(one, other)
        for text in (*reasons, str(refusal.value)):
            assert name_of(one) in text
            assert name_of(other) in text
            assert "keep one" in text
        return
    lab = lab_for(tmp_path, one, other)
    if problems := check(with_tricks(one, other)):
        text = " ".join(problem.message for problem in problems)
        assert name_of(one) in text
        assert name_of(other) in text
        return
    # so that also with accumulated gradients there is a step before and after the pause
    config = with_tricks(one, other, loader={"batch_size": 90}, budget={"epochs": 2})
    whole, resumed = lab.train(config), lab.add(config)
    run = lab.run(whole)
    assert (run.status, run.reason) == (Status.FINISHED, "")
    assert set(run.evidence) == {name_of(one), name_of(other)}
    lab.train_until(resumed, 3)
    assert lab.run(resumed).status == Status.PAUSED
    lab.resume(resumed)
    lab.train_claimed(resumed)
    curves = [lab.points(run_id, "train_loss").values.tolist() for run_id in (whole, resumed)]
    assert curves[0] == curves[1]
    assert lab.run(resumed).evidence == run.evidence


@every_trick
def test_a_trick_is_on_once_at_most_and_its_clashes_are_in_the_catalogue(
    trick: type[Trick],
) -> None:
    with pytest.raises(ValidationError, match=f"{name_of(trick)} is chosen twice; keep one"):
        with_tricks(trick, trick)
    assert set(trick.clashes) <= set(NAMES)
    assert all(trick.clashes.values())


def test_the_order_in_which_tricks_are_given_does_not_matter(tmp_path: Path) -> None:
    tricks = [Seed(), Deterministic(), GradientAccumulation(steps=2)]
    for shuffled in itertools.permutations(tricks):
        assert in_order(shuffled) == tricks
    lab = Lab.at(tmp_path)
    one = lab.train(with_tricks(*tricks, model={"width": 2, "dropout": 0.5}))
    other = lab.train(with_tricks(*reversed(tricks), model={"width": 2, "dropout": 0.5}))
    curves = [lab.points(run_id, "train_loss").values.tolist() for run_id in (one, other)]
    assert curves[0] == curves[1]
    assert list(lab.run(one).evidence) == list(lab.run(other).evidence)


# -- switches of the process ----------------------------------------------------------------


def process_state() -> dict[str, Any]:
    """Everything of the whole process that a trick may switch."""
    cudnn = torch.backends.cudnn
    return {
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cublas": os.environ.get(CUBLAS),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state(legacy=False)["state"]["key"].tolist(),  # type: ignore[call-overload]
        "random": random.getstate(),
    }


@pytest.fixture(params=["as they come", "turned"])
def switches(request: pytest.FixtureRequest) -> Iterator[None]:
    """The process as it is, and with every switch the other way round."""
    if request.param == "as they come":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CUBLAS, ":16:8")
        patch.setattr(torch.backends.cudnn, "benchmark", True)
        patch.setattr(torch.backends.cudnn, "deterministic", True)
        patch.setattr(torch.backends.cudnn, "enabled", False)
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("switches")
@every_trick
def test_switches_of_the_process_are_as_before_when_a_run_has_ended(
    trick: type[Trick], tmp_path: Path
) -> None:
    lab = lab_for(tmp_path, trick)
    before = process_state()
    assert lab.run(lab.train(with_tricks(trick))).status == Status.FINISHED
    assert process_state() == before


@pytest.mark.usefixtures("switches")
@every_trick
def test_switches_of_the_process_are_as_before_when_a_run_has_failed(trick: type[Trick]) -> None:
    config = with_tricks(trick)
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    before = process_state()

    def fail() -> None:
        if trick is Seed:
            torch.rand(1), np.random.rand(), random.random()
        raise ZeroDivisionError

    for switch in setup.switches:
        with pytest.raises(ZeroDivisionError), switch():
            fail()
    assert process_state() == before


def test_deterministic_switches_what_its_evidence_says(tmp_path: Path) -> None:
    config = with_tricks(Deterministic)
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    with setup.switches[0]():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert os.environ[CUBLAS] == ":4096:8"
    lab = Lab.at(tmp_path)
    assert lab.run(lab.train(config)).evidence["deterministic"] == {
        "deterministic_algorithms": True,
        "warn_only": False,
        "cudnn_deterministic": True,
        "cudnn_benchmark": False,
        "cublas_workspace_config": ":4096:8",
        "operations_without_deterministic_form": [],
    }


@pytest.mark.parametrize("trick", [Deterministic, CudnnBenchmark], ids=name_of)
@pytest.mark.parametrize("allowed", [True, False])
def test_what_switches_cudnn_leaves_its_tensor_float_32_alone(
    trick: type[Trick], allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    config = with_tricks(trick)
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    with setup.switches[0]():
        assert torch.backends.cudnn.allow_tf32 == allowed


def no_deterministic_form() -> None:
    torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))


def test_an_operation_without_a_deterministic_form_stops_the_run_with_its_name() -> None:
    config = with_tricks(Deterministic)
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    with setup.switches[0](), pytest.raises(RuntimeError, match="put_ does not have a determin"):
        no_deterministic_form()


def test_where_it_only_warns_the_operation_is_named_in_the_evidence() -> None:
    config = with_tricks(Deterministic(warn_only=True))
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    # as in a run: warnings are shown, not errors
    with warnings.catch_warnings(action="default", record=True) as shown, setup.switches[0]():
        no_deterministic_form()
        evidence = config.tricks[0].evidence(setup)
    assert len(shown) == 1, "whoever reads the log sees the warning too"
    assert evidence["operations_without_deterministic_form"] == ["put_"]
    assert evidence["warn_only"]


def test_cudnn_benchmark_counts_the_shapes_and_says_that_a_cpu_searches_nothing(
    tmp_path: Path,
) -> None:
    lab = Lab.at(tmp_path)
    evidence = lab.run(lab.train(with_tricks(CudnnBenchmark))).evidence["cudnn_benchmark"]
    # 1,437 examples in batches of 360
    assert evidence == {
        "cudnn_benchmark": True,
        "searched": False,
        "reason": "cuDNN does not run on cpu",
        "shapes": {"360x1x8x8": 3, "357x1x8x8": 1},
        "search_seconds": None,
    }


def test_the_shapes_are_counted_on_over_a_pause(tmp_path: Path) -> None:
    from app import queue
    from app.executors.training import train_claimed
    from trainer.store.database import writing

    lab = Lab.at(tmp_path)
    run_id = lab.add(with_tricks(CudnnBenchmark))
    lab.train_until(run_id, 2)
    with writing(lab.engine) as connection:
        queue.resume(connection, run_id)
    train_claimed(lab.claim(run_id), lab.settings)
    shapes = lab.run(run_id).evidence["cudnn_benchmark"]["shapes"]
    assert shapes == {"360x1x8x8": 3, "357x1x8x8": 1}


def test_seed_starts_every_generator_of_the_process_from_the_runs_seed(tmp_path: Path) -> None:
    def drawn(seed: int) -> tuple[float, ...]:
        with seeded(seed):
            return (torch.rand(1).item(), float(np.random.rand()), random.random())

    first = drawn(3)
    torch.rand(1), np.random.rand(), random.random()
    assert drawn(3) == first
    assert all(one != other for one, other in zip(drawn(4), first, strict=True))

    lab = Lab.at(tmp_path)
    evidence = lab.run(lab.train(with_tricks(Seed, seed=11))).evidence["seed"]
    assert evidence["seed"] == 11
    assert evidence["generators"] == {
        "torch": stream_seed(11, "torch"),
        "numpy": stream_seed(11, "numpy") % 2**32,
        "random": stream_seed(11, "random"),
    }
