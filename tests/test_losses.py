"""The losses: PyTorch's, numpy's, the founding notes' printed ones; their flags, weights, traps."""

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from losses import (
    CASES,
    CLASSES,
    UNKNOWN,
    WEIGHTS,
    Case,
    Network,
    drawn_targets,
    targets_of,
)
from pydantic import TypeAdapter, ValidationError
from torch import nn

from trainer.losses import (
    LOSSES,
    AbsoluteError,
    AnyLoss,
    BinaryCrossEntropy,
    BinaryCrossEntropyWithLogits,
    CrossEntropy,
    Huber,
    KullbackLeibler,
    Loss,
    MeanSquaredError,
    NegativeLogLikelihood,
    SmoothL1,
)
from trainer.part import Refused, name_of
from trainer.targets import Kind, Targets

Numbers = npt.NDArray[np.float64]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def example(case: Case, number: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs that want a gradient, and targets."""
    chance = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    inputs = torch.randn(number, 6, generator=chance, dtype=torch.float64)
    output = Network(case.targets.kind)(inputs).detach().requires_grad_()
    return output, drawn_targets(case.targets.kind, number, chance)


# -- against numpy --------------------------------------------------------------------------


def log_softmax(scores: Numbers) -> Numbers:
    shifted = scores - scores.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def rows_of(target: npt.NDArray[Any], classes: int) -> Numbers:
    """Class numbers (N, …) as (N, C, …) of zeros and one 1; of unknown ones all are 0."""
    return np.moveaxis(np.stack([target == label for label in range(classes)], -1), -1, 1) * 1.0


def by_hand(case: Case, output: Numbers, target: npt.NDArray[Any]) -> tuple[Numbers, float]:
    """The loss of each element, and what its mean divides by, from the formula."""
    loss, classes = case.loss, output.shape[1]
    is_labels = target.dtype.kind == "i"
    wanted = rows_of(target, classes) if is_labels else target
    if isinstance(loss, CrossEntropy | NegativeLogLikelihood):
        return entropy_by_hand(case, output, target, wanted)
    if isinstance(loss, BinaryCrossEntropy | BinaryCrossEntropyWithLogits):
        weight = loss.weight_of_no * (1 - wanted) + loss.weight_of_yes * wanted
        yes = yes_weight(case, wanted)
        value = -weight * (
            yes * wanted * -np.logaddexp(0, -output) + (1 - wanted) * -np.logaddexp(0, output)
        )
        return value, value.size
    if isinstance(loss, KullbackLeibler):
        heat = loss.temperature
        soft = wanted ** (1 / heat) / (wanted ** (1 / heat)).sum(1, keepdims=True)
        found = log_softmax(output / heat)
        value = heat**2 * (
            np.where(soft > 0, soft * np.log(np.maximum(soft, 1e-300)), 0) - soft * found
        )
        return value, len(output) if loss.reduction == "batchmean" else value.size
    far = np.abs(output - wanted)
    if isinstance(loss, SmoothL1):
        value = np.where(far < loss.beta, far**2 / (2 * loss.beta), far - loss.beta / 2)
    elif isinstance(loss, Huber):
        value = np.where(far < loss.delta, far**2 / 2, loss.delta * (far - loss.delta / 2))
    else:
        value = far if isinstance(loss, AbsoluteError) else far**2
    return value, value.size


def yes_weight(case: Case, wanted: Numbers) -> Numbers | float:
    loss = case.loss
    if not isinstance(loss, BinaryCrossEntropyWithLogits):
        return 1.0
    if not loss.balance:
        return loss.pos_weight
    yes = wanted.sum(0)
    return np.where(yes > 0, (len(wanted) - yes) / np.maximum(yes, 1), 1.0)


def entropy_by_hand(
    case: Case, output: Numbers, target: npt.NDArray[Any], wanted: Numbers
) -> tuple[Numbers, float]:
    loss, classes = case.loss, output.shape[1]
    assert isinstance(loss, CrossEntropy | NegativeLogLikelihood)
    is_labels = target.dtype.kind == "i"
    left_out = loss.ignore_index if loss.ignore_index is not None else case.targets.ignored
    counts = target != left_out if is_labels else np.ones(len(target), bool)
    weights = np.asarray(loss.weights or (1.0,) * classes)
    if loss.weighting == "balanced":
        found = rows_of(target, classes) if is_labels else target
        found = found * np.expand_dims(counts, 1)
        total = np.moveaxis(found, 1, -1).reshape(-1, classes).sum(0)
        weights = np.where(total > 0, total.sum() / (classes * np.maximum(total, 1e-9)), 0)
    spread = weights.reshape(1, classes, *(1,) * (output.ndim - 2))
    share = getattr(loss, "label_smoothing", 0.0)
    smooth = (1 - share) * wanted + share / classes
    value = -(spread * smooth * log_softmax(output)).sum(1) * counts
    if not is_labels:
        return value, len(output)
    of_target = (spread * wanted).sum(1)
    return value, float((of_target * counts).sum())


@every_case
def test_a_loss_is_what_its_formula_says(case: Case) -> None:
    output, target = example(case)
    criterion = case.criterion(target)
    elements, divisor = by_hand(case, output.detach().numpy(), target.numpy())
    found = criterion.elements(output, target).detach().numpy()
    np.testing.assert_allclose(found, elements, rtol=1e-6, atol=1e-9)
    expected = {"sum": elements.sum(), "none": elements.mean()}.get(
        case.loss.reduced_by, elements.sum() / divisor
    )
    assert criterion.value(output, target).item() == pytest.approx(expected, rel=1e-6)


@every_case
def test_a_value_is_the_total_over_its_divisor_and_so_is_its_gradient(case: Case) -> None:
    output, target = example(case)
    criterion = case.criterion(target)
    value, total = criterion.value(output, target), criterion.total(output, target)
    divisor = criterion.divisor(criterion.averaged_over(output, target))
    torch.testing.assert_close(value, total / divisor, rtol=1e-12, atol=0)
    (one,) = torch.autograd.grad(value, output)
    (other,) = torch.autograd.grad(total / divisor, output)
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-14)
    assert one.abs().sum() > 0


@every_case
def test_totals_and_what_they_are_averaged_over_add_up_over_batches(case: Case) -> None:
    output, target = example(case)
    criterion = case.criterion(target)
    parts = list(zip(output.split([4, 6, 1]), target.split([4, 6, 1]), strict=True))
    total = sum(criterion.total(*part).item() for part in parts)
    over = sum(float(criterion.averaged_over(*part)) for part in parts)
    assert over == pytest.approx(float(criterion.averaged_over(output, target)), rel=1e-12)
    value = criterion.value(output, target).item()
    assert total / float(criterion.divisor(over)) == pytest.approx(value, rel=1e-12)


# -- against PyTorch ------------------------------------------------------------------------

TORCHS: Mapping[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "nll": nn.NLLLoss,
    "bce": nn.BCELoss,
    "bce_with_logits": nn.BCEWithLogitsLoss,
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "smooth_l1": nn.SmoothL1Loss,
    "huber": nn.HuberLoss,
    "kl_div": nn.KLDivLoss,
}
BEFORE = {
    "nll": lambda scores: scores.log_softmax(1),
    "kl_div": lambda scores: scores.log_softmax(1),
    "bce": torch.sigmoid,
}


def test_every_loss_is_compared_with_torchs() -> None:
    assert set(TORCHS) == {name_of(loss) for loss in LOSSES}
    assert all(loss.torch_name == TORCHS[name_of(loss)].__name__ for loss in LOSSES)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in TORCHS], ids=str)
def test_a_plain_loss_is_torchs_to_the_last_bit(case: Case) -> None:
    output, target = example(case)
    given = BEFORE.get(case.name, lambda scores: scores)(output)
    held = target
    if not target.is_floating_point() and case.name not in ("cross_entropy", "nll"):
        held = torch.eye(CLASSES, dtype=torch.float64)[target]
    more = {"ignore_index": UNKNOWN} if case.targets.kind is Kind.PIXELS else {}
    with warnings.catch_warnings():
        # of KLDivLoss, that its mean is no mathematical mean
        warnings.simplefilter("ignore")
        expected = TORCHS[case.name](reduction=case.loss.reduced_by, **more)(given, held)
    found = case.criterion(target).value(output, target)
    assert found.item() == expected.mean().item()


FLAGS = list(itertools.product((None, True, False), repeat=2))


@pytest.mark.parametrize(("size_average", "reduce"), FLAGS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_old_flags_mean_what_they_mean_to_pytorch(
    size_average: bool | None, reduce: bool | None, reduction: str
) -> None:
    loss: Loss = TypeAdapter(AnyLoss).validate_python(
        {"name": "mse", "reduction": reduction, "size_average": size_average, "reduce": reduce}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchs = nn.MSELoss(size_average, reduce, reduction)
    assert loss.reduced_by == torchs.reduction
    told = loss.mapping_of_old_flags
    if size_average is None and reduce is None:
        assert told == ""
    else:
        assert f"reduction={torchs.reduction!r}" in told
        assert ("overrides" in told) == (torchs.reduction != reduction)


def test_the_flags_of_the_notes_give_a_value_per_element() -> None:
    loss = AbsoluteError(reduce=False, size_average=False)
    assert loss.reduced_by == "none"
    assert loss.mapping_of_old_flags == (
        "size_average=False and reduce=False of old PyTorch means reduction='none' today; it "
        "overrides reduction='mean'; use reduction instead"
    )


def test_nll_over_pixels_is_what_nllloss2d_was() -> None:
    output, target = torch.randn(2, 5, 3, 3), torch.randint(5, (2, 3, 3))
    criterion = NegativeLogLikelihood().criterion(Targets(Kind.PIXELS, tuple("abcde")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.NLLLoss2d()
    assert torch.equal(criterion.value(output, target), old(output.log_softmax(1), target))


# -- the founding notes ---------------------------------------------------------------------

L1_NOTE = (
    [[0.6793, 1.8591, -1.1041, -0.1995], [0.2771, -0.8312, 0.1774, -0.7146],
     [0.5816, -0.1780, -1.5800, -0.9133]],
    [[1.2876, 0.2281, 1.0222, -0.4885], [-0.1980, -0.7899, -1.8150, 0.1471],
     [-1.5262, -0.5305, -0.4179, -0.2347]],
    [[0.6083, 1.6311, 2.1263, 0.2890], [0.4751, 0.0413, 1.9924, 0.8617],
     [2.1078, 0.3525, 1.1622, 0.6786]],
)  # fmt: skip
SMOOTH_NOTE = (
    [[-0.2866, -0.6683, 0.2946, -0.8280], [0.0132, -0.0168, -0.1908, 0.9864],
     [-0.6769, -0.1438, -1.4344, 1.3525]],
    [[0.1833, 0.2032, 0.3971, 0.5473], [0.8244, 1.0036, 0.7856, -2.5749],
     [-0.2325, -0.1510, -0.1874, -1.5165]],
    [[1.1043e-01, 3.7979e-01, 5.2451e-03, 8.7531e-01],
     [3.2901e-01, 5.2042e-01, 4.7668e-01, 3.0613e+00],
     [9.8726e-02, 2.5969e-05, 7.4704e-01, 2.3690e+00]],
)  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "note"),
    [
        (AbsoluteError(reduce=False, size_average=False), L1_NOTE),
        (SmoothL1(reduce=False, size_average=False), SMOOTH_NOTE),
        (Huber(reduction="none"), SMOOTH_NOTE),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_the_tensors_printed_in_the_notes_come_out(loss: Loss, note: Any) -> None:
    output, target, printed = map(torch.tensor, note)
    found = loss.criterion(Targets(Kind.NUMBERS)).elements(output, target)
    # the printed inputs have four digits after the point, and so has what follows from them
    torch.testing.assert_close(found, printed, rtol=2e-3, atol=1.5e-4)


def test_class_weights_of_bce_are_looked_up_by_the_target_as_in_the_notes() -> None:
    output = torch.randn(3, 4, dtype=torch.float64)
    target = torch.randint(2, (3, 4)).double()
    weight = torch.tensor([1.0, 10.0], dtype=torch.float64)[target.long()]
    expected = nn.BCELoss(weight=weight, reduction="none")(torch.sigmoid(output), target)
    loss = BinaryCrossEntropy(weight_of_yes=10.0, reduction="none")
    found = loss.criterion(Targets(Kind.BINARY)).elements(output, target)
    assert torch.equal(found, expected)


# -- facts worth knowing --------------------------------------------------------------------


def value_of(loss: Loss, output: torch.Tensor, target: torch.Tensor, kind: Kind) -> float:
    return loss.criterion(targets_of(kind), target).value(output, target).item()


def test_smooth_l1_is_huber_divided_by_where_it_turns() -> None:
    output, target = torch.randn(9, 5), torch.randn(9, 5)
    smooth = value_of(SmoothL1(beta=0.4), output, target, Kind.NUMBERS)
    huber = value_of(Huber(delta=0.4), output, target, Kind.NUMBERS)
    assert smooth == pytest.approx(huber / 0.4)


def test_a_sigmoid_before_the_loss_saturates_and_logits_do_not() -> None:
    output, target = torch.tensor([[200.0]]), torch.tensor([[0.0]])
    assert value_of(BinaryCrossEntropy(), output, target, Kind.BINARY) == 100
    assert value_of(BinaryCrossEntropyWithLogits(), output, target, Kind.BINARY) == 200


def test_element_weights_of_bce_do_not_change_what_the_mean_divides_by() -> None:
    output, target = torch.zeros(4, 1), torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    plain = value_of(BinaryCrossEntropy(), output, target, Kind.BINARY)
    weighted = value_of(BinaryCrossEntropy(weight_of_yes=5.0), output, target, Kind.BINARY)
    assert weighted == pytest.approx(plain * (5 + 3) / 4)


def test_class_weights_divide_by_the_weights_except_with_probability_targets() -> None:
    output, labels = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 1, 3, 4, 4])
    loss = CrossEntropy(weighting="given", weights=WEIGHTS)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    total = (weights[labels] * F.cross_entropy(output, labels, reduction="none")).sum()
    rows = torch.eye(5, dtype=torch.float64)[labels]
    of_labels = value_of(loss, output, labels, Kind.CLASSES)
    of_rows = value_of(loss, output, rows, Kind.DISTRIBUTION)
    assert of_labels == pytest.approx(float(total / weights[labels].sum()), rel=1e-6)
    assert of_rows == pytest.approx(float(total / 6), rel=1e-6)


def test_the_divergence_divides_by_examples_and_its_mean_by_elements() -> None:
    output, target = torch.randn(4, 5), torch.randn(4, 5).softmax(1)
    batchmean = value_of(KullbackLeibler(), output, target, Kind.DISTRIBUTION)
    mean = value_of(KullbackLeibler(reduction="mean"), output, target, Kind.DISTRIBUTION)
    assert batchmean == pytest.approx(5 * mean)


def test_softened_targets_are_those_of_softened_scores() -> None:
    output = torch.randn(4, 5, dtype=torch.float64)
    teacher = 3 * torch.randn(4, 5, dtype=torch.float64)
    found = value_of(
        KullbackLeibler(temperature=4.0), output, teacher.softmax(1), Kind.DISTRIBUTION
    )
    expected = 16 * F.kl_div(
        F.log_softmax(output / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean"
    )
    assert found == pytest.approx(float(expected), rel=1e-9)


def test_a_certain_teacher_gives_no_nan() -> None:
    output, rows = torch.randn(4, 5, requires_grad=True), torch.eye(5)[:4]
    for temperature in (1.0, 4.0):
        loss = KullbackLeibler(temperature=temperature)
        value = loss.criterion(targets_of(Kind.DISTRIBUTION)).value(output, rows)
        value.backward()
        assert torch.isfinite(value)
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


def test_nothing_but_ignored_targets_is_nan_and_no_error() -> None:
    loss = CrossEntropy(ignore_index=2)
    assert np.isnan(value_of(loss, torch.randn(3, 5), torch.tensor([2, 2, 2]), Kind.CLASSES))


def test_balanced_weights_give_every_class_the_same_say() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2 + [3])
    criterion = CrossEntropy(weighting="balanced").criterion(targets_of(Kind.CLASSES), labels)
    assert criterion.weights is not None
    counts = torch.bincount(labels, minlength=5)
    assert (criterion.weights * counts)[[0, 1, 3]].tolist() == pytest.approx([11 / 5] * 3)
    assert criterion.weights[[2, 4]].tolist() == [0, 0]


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [AbsoluteError(), SmoothL1(), Huber(), MeanSquaredError()])
def test_a_column_is_not_held_against_a_row(loss: Loss) -> None:
    column, row = torch.randn(4, 1), torch.randn(4)
    criterion = loss.criterion(Targets(Kind.NUMBERS))
    with pytest.raises(Refused, match=r"outputs \(4, 1\) and targets \(4,\).*view_as"):
        criterion.value(column, row)


@pytest.mark.parametrize(
    ("loss", "kind", "said"),
    [
        (MeanSquaredError(), Kind.PIXELS, r"MSELoss is for .*asks for a class for every pixel"),
        (CrossEntropy(), Kind.NUMBERS, "asks for numbers"),
        (KullbackLeibler(), Kind.BINARY, "asks for yes or no"),
        (CrossEntropy(weighting="given", weights=(1, 2)), Kind.CLASSES, "2 weights for 5 classes"),
        (CrossEntropy(ignore_index=3), Kind.PIXELS, "marks what is unknown by 255"),
        (CrossEntropy(ignore_index=3), Kind.DISTRIBUTION, "one class per example"),
    ],
)
def test_a_loss_that_does_not_suit_the_targets_is_refused(
    loss: Loss, kind: Kind, said: str
) -> None:
    with pytest.raises(Refused, match=said):
        loss.criterion(targets_of(kind))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weighting": "given"}, "write one per class"),
        ({"weights": [1, 2]}, "choose given"),
        ({"weighting": "given", "weights": [0, 0]}, "all weights are 0"),
        ({"weighting": "given", "weights": [-1, 2]}, "greater than or equal to 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CrossEntropy.model_validate(given)
