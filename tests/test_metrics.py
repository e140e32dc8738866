"""What a model is scored by, held against scikit-learn on the same predictions."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from losses import UNKNOWN, drawn_targets, targets_of

from trainer.metrics import METRICS, Scored
from trainer.metrics.binary import area_under_roc
from trainer.targets import Kind, Targets

CPU = torch.device("cpu")


def scored(targets: Targets, output: torch.Tensor, target: torch.Tensor) -> Scored:
    """In three batches of different sizes."""
    metrics = METRICS[targets.kind](targets, CPU)
    sizes = [7, 1, len(output) - 8]
    for part in zip(output.split(sizes), target.split(sizes), strict=True):
        metrics.add(*part)
    return metrics.scored()


def test_every_kind_of_target_has_metrics() -> None:
    assert set(METRICS) == set(Kind)


@pytest.mark.parametrize("kind", list(Kind))
def test_the_main_metric_is_one_of_those_that_are_scored(kind: Kind) -> None:
    chance = torch.Generator().manual_seed(1)
    target = drawn_targets(kind, 40, chance)
    shape = {Kind.BINARY: (40, 1), Kind.PIXELS: (40, 5, 2, 2)}.get(kind, (40, 5))
    numbers = scored(targets_of(kind), torch.randn(shape, generator=chance), target).numbers
    assert kind.main_metric.removeprefix("val_") in numbers
    assert all(math.isfinite(value) for value in numbers.values())


@pytest.mark.parametrize("kind", [Kind.CLASSES, Kind.DISTRIBUTION])
def test_classes_are_scored_as_scikit_learn_does(kind: Kind) -> None:
    chance = torch.Generator().manual_seed(2)
    labels = torch.randint(5, (300,), generator=chance)
    output = torch.randn(300, 5, generator=chance) + 1.5 * torch.eye(5)[labels]
    target = labels if kind is Kind.CLASSES else torch.eye(5)[labels] * 0.6 + 0.08
    found = scored(targets_of(kind), output, target)
    said = output.argmax(1)
    numbers = found.numbers
    assert numbers["accuracy"] == sk.accuracy_score(labels, said)
    assert numbers["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, said))
    assert numbers["top3_accuracy"] == pytest.approx(sk.top_k_accuracy_score(labels, output, k=3))
    assert found.details["confusion"] == sk.confusion_matrix(labels, said).tolist()
    recall, precision, f1, count = (
        found.details["per_class"][name] for name in ("recall", "precision", "f1", "count")
    )
    expected = sk.precision_recall_fscore_support(labels, said)
    for ours, theirs in zip((precision, recall, f1, count), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    # four examples, each 80 % sure, half of them right
    output = torch.tensor([[math.log(0.8), math.log(0.2)]] * 4)
    metrics = METRICS[Kind.CLASSES](Targets(Kind.CLASSES, ("a", "b")), CPU)
    metrics.add(output, torch.tensor([0, 0, 1, 1]))
    found = metrics.scored()
    assert found.numbers["calibration_error"] == pytest.approx(0.3, abs=1e-6)
    (bin_,) = found.details["reliability"]
    assert bin_ == {
        "examples": 4,
        "confidence": pytest.approx(0.8),
        "accuracy": pytest.approx(0.5),
    }


def test_yes_and_no_are_scored_as_scikit_learn_does() -> None:
    chance = torch.Generator().manual_seed(3)
    target = torch.randint(2, (200, 1), generator=chance).double()
    # rounded, so that some scores are tied
    output = (torch.randn(200, 1, generator=chance) + target).mul(4).round().div(4) + 0.1
    labels, said = target.flatten().long(), (output > 0).flatten().long()
    numbers = scored(targets_of(Kind.BINARY), output, target).numbers
    assert numbers["auc"] == pytest.approx(sk.roc_auc_score(labels, output.flatten()))
    assert numbers["accuracy"] == sk.accuracy_score(labels, said)
    assert numbers["recall"] == pytest.approx(sk.recall_score(labels, said))
    assert numbers["precision"] == pytest.approx(sk.precision_score(labels, said))
    assert numbers["f1"] == pytest.approx(sk.f1_score(labels, said))


def test_the_area_under_the_curve_needs_both_answers_and_numbers() -> None:
    assert math.isnan(area_under_roc(torch.randn(3), torch.tensor([True, True, True])))
    broken = torch.tensor([math.nan, 1.0, 2.0])
    assert math.isnan(area_under_roc(broken, torch.tensor([True, False, True])))


def test_pixels_are_scored_without_those_that_nobody_knows() -> None:
    chance = torch.Generator().manual_seed(4)
    target = drawn_targets(Kind.PIXELS, 40, chance)
    output = torch.randn(40, 5, 2, 2, generator=chance)
    found = scored(targets_of(Kind.PIXELS), output, target)
    known = target != UNKNOWN
    assert not known.all()
    labels, said = target[known], output.argmax(1)[known]
    assert found.numbers["accuracy"] == sk.accuracy_score(labels, said)
    assert found.numbers["iou"] == pytest.approx(sk.jaccard_score(labels, said, average="macro"))
    np.testing.assert_allclose(
        found.details["per_class"]["iou"], sk.jaccard_score(labels, said, average=None)
    )


def test_a_class_that_never_occurs_takes_no_part_in_a_mean() -> None:
    output = torch.eye(5)[torch.tensor([0, 1, 2] * 4)]
    metrics = METRICS[Kind.CLASSES](targets_of(Kind.CLASSES), CPU)
    metrics.add(output, torch.tensor([0, 1, 1] * 4))
    found = metrics.scored()
    assert found.numbers["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert math.isnan(found.details["per_class"]["recall"][4])


def test_numbers_are_scored_as_scikit_learn_does_and_in_the_units_of_the_data() -> None:
    chance = torch.Generator().manual_seed(5)
    target = torch.randn(100, 1, generator=chance)
    output = target + 0.4 * torch.randn(100, 1, generator=chance)
    numbers = scored(Targets(Kind.NUMBERS, spread=77.0), output, target).numbers
    own, said = 77 * target.double(), 77 * output.double()
    assert numbers["r2"] == pytest.approx(sk.r2_score(own, said))
    assert numbers["mae"] == pytest.approx(sk.mean_absolute_error(own, said))
    assert numbers["rmse"] == pytest.approx(sk.root_mean_squared_error(own, said))


def test_a_model_that_gives_nan_is_scored_and_breaks_nothing() -> None:
    for kind, shape in ((Kind.CLASSES, (9, 5)), (Kind.BINARY, (9, 1)), (Kind.NUMBERS, (9, 5))):
        output = torch.full(shape, math.nan)
        target = drawn_targets(kind, 9, torch.Generator().manual_seed(0))
        numbers = scored(targets_of(kind), output, target).numbers
        assert set(numbers)
