"""Every trick in the catalogue, alone and in pairs, and what each of them promises."""

import dataclasses
import itertools
import json
import math
import os
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lab import Lab, tiny_config
from pydantic import ValidationError
from torch import nn

from app.models import Status
from trainer.batch import Batch
from trainer.block import shares
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.losses import CrossEntropy, MeanSquaredError
from trainer.part import Refused
from trainer.setup import Criterion, Setup, plain_backward
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
    Trick,
    clashes,
    in_order,
    name_of,
)
from trainer.tricks.deterministic import CUBLAS
from trainer.tricks.gradient_accumulation import accumulate
from trainer.tricks.seed import seeded

NAMES = [name_of(trick) for trick in TRICKS]
every_trick = pytest.mark.parametrize("trick", TRICKS, ids=NAMES)


def with_tricks(*tricks: Trick | type[Trick], **changes: Any) -> RunConfig:
    chosen = [trick() if isinstance(trick, type) else trick for trick in tricks]
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
    lab = Lab.at(tmp_path)
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
    "random_shift": {"tricks": [{"name": "random_shift", "pixels": 8}]},
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
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(config))
    assert run.status == Status.FAILED
    assert run.reason.startswith("tricks.0.")


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(TRICKS, 2)], ids=name_of)
def test_two_tricks_train_together_or_are_refused_with_both_names(
    one: type[Trick], other: type[Trick], tmp_path: Path
) -> None:
    if reasons := clashes([one(), other()]):
        with pytest.raises(ValidationError) as refusal:
            with_tricks(one, other)
        for text in (*reasons, str(refusal.value)):
            assert name_of(one) in text
            assert name_of(other) in text
            assert "keep one" in text
        return
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(with_tricks(one, other)))
    assert (run.status, run.reason) == (Status.FINISHED, "")
    assert set(run.evidence) == {name_of(one), name_of(other)}


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
    lab = Lab.at(tmp_path)
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


# -- accumulated gradients ------------------------------------------------------------------


@dataclass(frozen=True)
class Weighted:
    """Cross-entropy with class weights, and a class that is not counted: a criterion of our own.

    Its mean divides by the summed weights of the targets that count.
    """

    weight: torch.Tensor
    ignored: int = -100

    def value(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, target, self.weight, ignore_index=self.ignored)

    def total(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(
            output, target, self.weight, ignore_index=self.ignored, reduction="sum"
        )

    def averaged_over(self, output: torch.Tensor, target: torch.Tensor) -> float:
        return float(self.weight[target[target != self.ignored]].sum())

    def divisor(self, averaged_over: float) -> float:
        return averaged_over


WEIGHT = torch.linspace(0.1, 4.0, 5, dtype=torch.float64)
CRITERIA: Mapping[str, Criterion] = {
    "cross-entropy": CrossEntropy(),
    "cross-entropy, sum": CrossEntropy(reduction="sum"),
    "smoothed labels": CrossEntropy(label_smoothing=0.2),
    "smoothed labels, sum": CrossEntropy(label_smoothing=0.2, reduction="sum"),
    "squared error": MeanSquaredError(),
    "squared error, sum": MeanSquaredError(reduction="sum"),
    "class weights": Weighted(WEIGHT),
    "class weights, ignored targets": Weighted(WEIGHT, ignored=3),
}
WINDOWS = {"even": (8, 8, 8, 8), "short last batch": (8, 8, 8, 3), "short window": (8, 8, 5)}


def double_setup(criterion: Criterion) -> Setup:
    """A network without batch norm in double precision, as far as a backward pass needs one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 5)).double()
    return Setup(
        model=model,
        criterion=criterion,
        device=torch.device("cpu"),
        seed=0,
        epochs=1,
        batch_size=8,
        batches_per_epoch=4,
        train_examples=32,
        drops_last=False,
        input_shape=(6,),
        evaluation_batch=512,
        batches=lambda setup, epoch, first: iter(()),
        make_optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        lr_multiplier=lambda step, steps: 1.0,
        prepare=lambda batch: batch,
    )


def window_of(sizes: Sequence[int]) -> tuple[Batch, ...]:
    chance = torch.Generator().manual_seed(7)
    inputs = torch.randn(sum(sizes), 6, generator=chance, dtype=torch.float64)
    # sorted, so that the batches differ in their classes as much as they can
    targets = torch.randint(5, (sum(sizes),), generator=chance).sort().values
    return tuple(map(Batch, inputs.split(list(sizes)), targets.split(list(sizes))))


def joined(window: Sequence[Batch]) -> Batch:
    return Batch(
        torch.cat([batch.inputs for batch in window]),
        torch.cat([batch.targets for batch in window]),
    )


def gradients(setup: Setup) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in setup.model.parameters() if p.grad is not None])


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far apart two gradients are, relative to their size."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("sizes", [*WINDOWS.values()], ids=[*WINDOWS])
@pytest.mark.parametrize("criterion", [*CRITERIA.values()], ids=[*CRITERIA])
def test_the_accumulated_gradient_is_the_large_batchs(
    criterion: Criterion, sizes: tuple[int, ...]
) -> None:
    window = window_of(sizes)
    large, small = double_setup(criterion), double_setup(criterion)
    expected = plain_backward(large, (joined(window),))
    outcome = accumulate(small, window)
    assert off(gradients(small), gradients(large)) < 1e-13
    assert outcome.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    assert shares([outcome.hits]).tolist() == shares([expected.hits]).tolist()
    assert outcome.hits.examples == expected.hits.examples == sum(sizes)
    assert not outcome.loss.requires_grad


@pytest.mark.parametrize(
    ("criterion", "sizes", "wrong_by"),
    [
        ("cross-entropy", (8, 8, 8, 8), 0.0),
        ("cross-entropy", (8, 8, 8, 3), 0.05),
        ("class weights", (8, 8, 8, 8), 0.05),
        ("class weights, ignored targets", (8, 8, 8, 8), 0.05),
    ],
)
def test_dividing_each_loss_by_the_number_of_batches_would_be_wrong(
    criterion: str, sizes: tuple[int, ...], wrong_by: float
) -> None:
    window = window_of(sizes)
    large, naive = double_setup(CRITERIA[criterion]), double_setup(CRITERIA[criterion])
    plain_backward(large, (joined(window),))
    for batch in window:
        loss = naive.criterion.value(naive.model(batch.inputs), batch.targets)
        (torch.nan_to_num(loss) / len(window)).backward()
    wrong = off(gradients(naive), gradients(large))
    assert wrong > wrong_by if wrong_by else wrong < 1e-13


def test_a_run_with_accumulated_gradients_has_the_curve_of_the_large_batchs_run(
    tmp_path: Path,
) -> None:
    mlp = {"name": "mlp", "hidden": [16]}
    lab = Lab.at(tmp_path)
    large = lab.train(tiny_config(model=mlp, budget={"epochs": 3}))
    small = lab.train(
        with_tricks(
            GradientAccumulation(), model=mlp, loader={"batch_size": 90}, budget={"epochs": 3}
        )
    )
    for name in ("train_loss", "train_accuracy", "learning_rate", "val_loss"):
        one, other = lab.points(small, name), lab.points(large, name)
        assert one.steps.tolist() == other.steps.tolist()
        np.testing.assert_allclose(one.values, other.values, rtol=2e-5)
    evidence = lab.run(small).evidence["gradient_accumulation"]
    # 1,437 examples are 15 batches of 90 and one of 87
    assert evidence == {
        "batch_size": 90,
        "effective_batch_size": 360,
        "steps_per_epoch": 4,
        "batches_in_last_step": 4,
        "learning_rate_factor": 1.0,
        "batch_norm_layers": 0,
        "batch_norm_momentum": [],
    }


@pytest.mark.parametrize(("rule", "factor"), [("linear", 3.0), ("sqrt", math.sqrt(3))])
def test_the_learning_rate_is_raised_by_the_rule_that_was_chosen(
    tmp_path: Path, rule: str, factor: float
) -> None:
    lab = Lab.at(tmp_path)
    plain = lab.points(lab.train(with_tricks(GradientAccumulation(steps=3))), "learning_rate")
    trick = GradientAccumulation(steps=3, learning_rate_rule=rule)  # type: ignore[arg-type]
    raised_id = lab.train(with_tricks(trick))
    raised = lab.points(raised_id, "learning_rate")
    np.testing.assert_allclose(raised.values, plain.values * factor, rtol=1e-6)
    evidence = lab.run(raised_id).evidence["gradient_accumulation"]
    assert evidence["learning_rate_factor"] == pytest.approx(factor)
    # four batches in steps of three: the second step gets one
    assert (evidence["steps_per_epoch"], evidence["batches_in_last_step"]) == (2, 1)


@pytest.mark.parametrize("steps", [2, 4, 16])
def test_batch_norm_remembers_over_a_window_what_it_would_over_the_large_batch(steps: int) -> None:
    config = with_tricks(GradientAccumulation(steps=steps), loader={"batch_size": 32})
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    norms = [m for m in setup.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3
    norm, large = norms[0].train(), nn.BatchNorm2d(2)
    batch = torch.randn(32, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    large(batch)
    for _ in range(steps):
        norm(batch)
    torch.testing.assert_close(norm.running_mean, large.running_mean)
    torch.testing.assert_close(norm.running_var, large.running_var)
    evidence = config.tricks[0].evidence(setup)
    assert evidence["batch_norm_layers"] == 3
    assert evidence["batch_norm_momentum"] == [pytest.approx(1 - 0.9 ** (1 / steps))]


def test_batch_norm_is_left_alone_where_that_was_chosen() -> None:
    config = with_tricks(GradientAccumulation(adjust_batch_norm=False))
    setup = setup_of(config)
    config.tricks[0].apply(setup)
    assert config.tricks[0].evidence(setup)["batch_norm_momentum"] == [0.1]
