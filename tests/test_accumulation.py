"""Accumulated gradients are those of the large batch, for every loss, weight and window."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, tiny_config
from losses import CASES, Case, joined, setup_for, window_of
from torch import nn

from trainer.block import shares
from trainer.build import build_setup
from trainer.check import facts
from trainer.config import RunConfig
from trainer.setup import Setup, plain_backward
from trainer.targets import Kind
from trainer.tasks import DataFolders
from trainer.tricks import GradientAccumulation, Trick
from trainer.tricks.gradient_accumulation import accumulate

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def gradients(setup: Setup) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in setup.model.parameters() if p.grad is not None])


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far apart two gradients are, relative to their size."""
    return float((one - other).norm() / other.norm())


def find(name: str, reduction: str = "mean", kind: Kind = Kind.CLASSES) -> Case:
    return next(
        case
        for case in CASES
        if (case.name, case.loss.reduced_by, case.targets.kind) == (name, reduction, kind)
    )


def backward_passes(case: Case, sizes: tuple[int, ...], seed: int) -> tuple[Setup, Setup]:
    """The same examples as one batch, and as batches of these sizes."""
    window = window_of(case.targets.kind, sizes, seed)
    whole = joined(window)
    criterion = case.criterion(whole.targets)
    large, small = setup_for(case, criterion), setup_for(case, criterion)
    expected, outcome = plain_backward(large, (whole,)), accumulate(small, window)
    assert outcome.loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    assert not outcome.loss.requires_grad
    assert outcome.examples == expected.examples == sum(sizes)
    if expected.hits is not None:
        assert outcome.hits is not None
        assert shares([outcome.hits]).tolist() == shares([expected.hits]).tolist()
    return large, small


@every_case
@settings(max_examples=5, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 4),
    seed=st.integers(0, 2**32),
)
def test_the_accumulated_gradient_is_the_large_batchs(
    case: Case, sizes: list[int], seed: int
) -> None:
    window = window_of(case.targets.kind, tuple(sizes), seed)
    criterion = case.criterion(joined(window).targets)
    output = setup_for(case, criterion).model(joined(window).inputs)
    if not criterion.averaged_over(output, joined(window).targets):
        return  # nothing but ignored or weightless targets: NaN, as the large batch gives
    large, small = backward_passes(case, tuple(sizes), seed)
    if gradients(large).norm() > 0:
        assert off(gradients(small), gradients(large)) < 1e-12


def test_a_window_of_ignored_targets_alone_is_nan_as_the_large_batch_is() -> None:
    case = find("cross_entropy, ignored")
    window = tuple(b._replace(targets=torch.full_like(b.targets, 3)) for b in window_of_classes())
    criterion = case.criterion(joined(window).targets)
    outcome = accumulate(setup_for(case, criterion), window)
    assert torch.isnan(outcome.loss)
    assert torch.isnan(plain_backward(setup_for(case, criterion), (joined(window),)).loss)


def window_of_classes() -> tuple:  # type: ignore[type-arg]
    return window_of(Kind.CLASSES, (4, 4))


@pytest.mark.parametrize(
    ("case", "sizes", "wrong_by"),
    [
        (find("cross_entropy"), (8, 8, 8, 8), 0.0),
        (find("cross_entropy"), (8, 8, 8, 3), 0.05),
        (find("cross_entropy, weights"), (8, 8, 8, 8), 0.05),
        (find("cross_entropy, weights, ignored"), (8, 8, 8, 8), 0.05),
        (find("cross_entropy", kind=Kind.PIXELS), (8, 8, 8, 8), 0.01),
    ],
    ids=str,
)
def test_dividing_each_loss_by_the_number_of_batches_would_be_wrong(
    case: Case, sizes: tuple[int, ...], wrong_by: float
) -> None:
    window = window_of(case.targets.kind, sizes)
    criterion = case.criterion(joined(window).targets)
    large, naive = setup_for(case, criterion), setup_for(case, criterion)
    plain_backward(large, (joined(window),))
    for batch in window:
        loss = naive.criterion.value(naive.model(batch.inputs), batch.targets)
        (torch.nan_to_num(loss) / len(window)).backward()
    wrong = off(gradients(naive), gradients(large))
    # a batch of nothing but ignored targets even makes it NaN
    assert not wrong <= wrong_by if wrong_by else wrong < 1e-13


def with_tricks(*tricks: Trick, **changes: Any) -> RunConfig:
    return tiny_config(tricks=[trick.model_dump() for trick in tricks], **changes)


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
    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(config, data, torch.device("cpu"))
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
    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(config, data, torch.device("cpu"))
    config.tricks[0].apply(setup)
    assert config.tricks[0].evidence(setup)["batch_norm_momentum"] == [0.1]


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_the_form_tells_the_batch_and_the_rate_that_come_of_it(rule: str, factor: float) -> None:
    trick = GradientAccumulation(steps=4, learning_rate_rule=rule)  # type: ignore[arg-type]
    told = facts(with_tricks(trick, loader={"batch_size": 16}))
    assert told.examples_per_step == 64
    plain = facts(with_tricks(loader={"batch_size": 16}))
    assert told.peak_learning_rate == pytest.approx(factor * plain.peak_learning_rate)
