"""The loss bench: values, gradients, totals and calls against torch, and all that it refuses."""

import itertools
import math
import warnings
from typing import Any

import pytest
import torch

from app.part_form import part_form
from trainer.loss_bench import BENCH_LOSSES, PRESETS, BenchLoss, Found, Unfit, find, numbers
from trainer.loss_bench.curve import curve, surface
from trainer.loss_bench.number_text import as_rows
from trainer.loss_bench.put_in import put_in
from trainer.loss_bench.remarks import remarks
from trainer.loss_bench.resizing import resized
from trainer.part import name_of

LOSSES = {name_of(loss): loss for loss in BENCH_LOSSES}
CASES: tuple[tuple[str, dict[str, str]], ...] = (
    ("l1", {}),
    ("smooth_l1", {}),
    ("smooth_l1", {"beta": "0.3"}),
    ("smooth_l1", {"beta": "0"}),
    ("huber", {}),
    ("huber", {"delta": "2.5"}),
    ("mse", {}),
    ("mse", {"input": "1,2,3", "target": "0,0,5"}),
    ("bce", {}),
    ("bce", {"weight": "1,2,0.5"}),
    ("bce", {"weight_by_target": "1 10"}),
    ("bce", {"input": "1,0", "target": "0,0.3"}),
    ("bce_with_logits", {}),
    ("bce_with_logits", {"pos_weight": "3"}),
    ("bce_with_logits", {"input": "1,2;3,-4", "target": "0,1;1,0.5", "pos_weight": "2 3"}),
    ("bce_with_logits", {"weight": "2,1,3", "pos_weight": "0.5", "input": "200,-3,0"}),
    ("cross_entropy", {}),
    ("cross_entropy", {"weight": "1 2 5"}),
    ("cross_entropy", {"weight": "1 2 5", "label_smoothing": "0.1"}),
    ("cross_entropy", {"weight": "1 2 5", "ignore_index": "0"}),
    ("cross_entropy", {"target": "1,0,0;0.2,0.3,0.5", "weight": "1 2 5"}),
    ("cross_entropy", {"target": "1,0,0;0.2,0.3,0.5", "label_smoothing": "0.2"}),
    ("cross_entropy", {"input": "1,2;3,4|5,6;0,1/", "target": "0,1;1,0|"}),
    ("nll", {}),
    ("nll", {"weight": "1 2 5", "target": "2,-100"}),
    ("kl_div", {}),
    ("kl_div", {"log_target": "on", "target": "-2.3,-0.51,-1.2;-0.69,-1.39,-1.39"}),
)
REDUCTIONS = ("none", "mean", "sum")


def loss_of(name: str, **values: str) -> BenchLoss:
    form = part_form(LOSSES[name], values)
    assert form.part is not None, form.errors
    return form.part


def run(call: str) -> dict[str, Any]:
    """What the code that the page offers comes to."""
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        # of old flags, and of the mean of KLDivLoss
        warnings.simplefilter("ignore")
        exec(call.replace("print(loss, input.grad)", ""), names)  # noqa: S102
    return names


def test_every_loss_of_training_is_on_the_bench() -> None:
    from trainer.losses import LOSSES as trained

    assert {loss.torch_name for loss in BENCH_LOSSES} == {loss.torch_name for loss in trained}
    assert {name for name, _ in CASES} == set(LOSSES)


# -- against torch --------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "values"), CASES, ids=str)
def test_the_call_that_is_offered_gives_the_same_to_the_bit(
    name: str, values: dict[str, str], reduction: str
) -> None:
    found = find(loss_of(name, **values, reduction=reduction))
    torchs = run(found.call)
    shown = found.elements if reduction == "none" else torch.tensor(found.chosen.value)
    torch.testing.assert_close(torchs["loss"].detach(), shown, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(torchs["input"].grad, found.gradient, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "values"), CASES, ids=str)
def test_every_total_is_the_sum_over_what_it_is_said_to_divide_by(
    name: str, values: dict[str, str]
) -> None:
    found = find(loss_of(name, **values))
    assert [total.reduction for total in found.totals if total.reduction != "batchmean"] == [
        *REDUCTIONS
    ]
    for total in found.totals[1:]:
        assert total.divides_by is not None
        expected = found.elements.double().sum().item() / total.divides_by
        assert total.value == pytest.approx(expected, rel=1e-5), total
        torchs = run(find(loss_of(name, **values, reduction=total.reduction)).call)
        assert total.value == torchs["loss"].item()


@pytest.mark.parametrize(("name", "values"), CASES, ids=str)
def test_the_curve_of_each_input_goes_through_where_it_is_now(
    name: str, values: dict[str, str]
) -> None:
    loss = loss_of(name, **values, reduction="sum")
    for at in range(find(loss).input.numel()):
        found = find(loss, at)
        line = curve(found)
        assert line.at == float(found.input.flatten()[at])
        assert line.loss_there == pytest.approx(found.value, rel=1e-5, abs=1e-6)
        slope = float(found.gradient.flatten()[at])
        assert line.slope_there == pytest.approx(slope, rel=1e-5, abs=1e-6)
        assert put_in(found)["value"] == found.value


@pytest.mark.parametrize(("name", "values"), CASES, ids=str)
def test_a_point_of_the_curve_is_the_loss_at_that_input(name: str, values: dict[str, str]) -> None:
    loss = loss_of(name, **values)
    found = find(loss, 1)
    line = curve(found)
    moved = found.input.clone().flatten()
    for number in (0, 40, 120):
        moved[1] = line.x[number]
        shaped = numbers(as_rows(moved.reshape(found.input.shape))).text
        there = find(loss.model_copy(update={"input": shaped}), 1)
        assert line.loss[number] == pytest.approx(there.value, rel=1e-4, abs=1e-5)


def test_a_point_of_the_surface_is_the_loss_at_those_two_scores() -> None:
    loss = loss_of("cross_entropy", weight="1 2 5")
    over = surface(find(loss, 5))
    assert over is not None
    assert over.classes == (2, 1)
    text = f"2,0.5,-1;0.2,{over.y[7]},{over.x[30]}"
    there = find(loss.model_copy(update={"input": text}), 5)
    assert over.values[7][30] == pytest.approx(there.value, rel=1e-5)


FLAGS = list(itertools.product(("", "on", "off"), repeat=2))


@pytest.mark.parametrize(("size_average", "reduce"), FLAGS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_old_flags_do_on_the_bench_what_they_do_in_torch(
    size_average: str, reduce: str, reduction: str
) -> None:
    found = find(loss_of("mse", size_average=size_average, reduce=reduce, reduction=reduction))
    torchs = run(found.call)
    assert torchs["loss_fn"].reduction == found.loss.reduced_by == found.chosen.reduction
    given = bool(size_average or reduce)
    assert any("today" in text for text in remarks(found)) == given


# -- the founding notes ---------------------------------------------------------------------

GOLDEN = {
    "l1-of-the-notes": [
        0.6083, 1.6311, 2.1263, 0.2890, 0.4751, 0.0413, 1.9924, 0.8617,
        2.1078, 0.3525, 1.1622, 0.6786,
    ],
    "smooth-l1-of-the-notes": [
        1.1043e-01, 3.7979e-01, 5.2451e-03, 8.7531e-01, 3.2901e-01, 5.2042e-01, 4.7668e-01,
        3.0613e00, 9.8726e-02, 2.5969e-05, 7.4704e-01, 2.3690e00,
    ],
    "bce-of-200": [100, math.log(2)],
    "logits-of-200": [200, math.log(2)],
}  # fmt: skip


def preset(name: str) -> Found:
    (one,) = [one for one in PRESETS if one.name == name]
    return find(loss_of(one.loss, **one.values))


def told(name: str) -> str:
    return " ".join(remarks(preset(name)))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_preset_gives_the_values_that_the_notes_print(name: str) -> None:
    printed = torch.tensor(GOLDEN[name])
    # the printed inputs have four digits after the point
    torch.testing.assert_close(preset(name).elements.flatten(), printed, rtol=2e-3, atol=1.5e-4)


def test_every_preset_is_computed_or_says_what_is_wrong_with_it() -> None:
    for one in PRESETS:
        if one.name == "column-against-row":
            with pytest.raises(Unfit, match=r"stretch both to \(3, 3\).* give 1.333"):
                preset(one.name)
        else:
            assert preset(one.name).elements.numel() > 0


def test_the_divergence_of_the_sheet_is_ten_times_its_mean() -> None:
    totals = {total.reduction: total.value for total in preset("divergence-mean").totals}
    assert totals["mean"] == pytest.approx(0.0617, abs=5e-5)
    assert totals["batchmean"] == pytest.approx(0.617, abs=5e-4)


def test_nll_on_log_softmax_is_the_cross_entropy_of_the_preset_before() -> None:
    nll, entropy = preset("nll-is-cross-entropy"), preset("cross-entropy-weights")
    torch.testing.assert_close(nll.elements, entropy.elements, rtol=0, atol=1e-3)
    assert entropy.chosen.divides_by == 13


def test_class_weights_are_forgotten_by_the_mean_of_probability_targets() -> None:
    labels, rows = preset("cross-entropy-weights"), preset("cross-entropy-probabilities")
    torch.testing.assert_close(labels.elements, rows.elements)
    assert (labels.chosen.divides_by, rows.chosen.divides_by) == (13, 3)
    assert "forgets the weights" in told("cross-entropy-probabilities")


def test_weight_of_target_weighs_and_the_mean_still_divides_by_elements() -> None:
    found = preset("bce-class-weights")
    assert found.chosen.divides_by == 12
    assert "[target.long()]" in found.call
    assert "Σ w = 39" in told("bce-class-weights")


def test_a_batch_of_ignored_targets_is_nan_and_says_why() -> None:
    found = preset("all-ignored")
    assert found.chosen.value is not None
    assert math.isnan(found.chosen.value)
    assert "0 / 0" in told("all-ignored")


def test_smooth_l1_is_told_to_be_huber_over_its_turn() -> None:
    huber = preset("huber-is-smooth-l1")
    values = {"input": huber.loss.input, "target": huber.loss.target}
    smooth = find(loss_of("smooth_l1", **values, beta="2"))
    torch.testing.assert_close(smooth.elements * 2, huber.elements)
    assert "SmoothL1Loss with the same turn · 2: 0.521 · 2 = 1.042" in told("huber-is-smooth-l1")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("nll", {"input": "0.7,0.2,0.1;", "target": "0"}, "no logarithms"),
        ("nll", {"input": "-inf,0,-inf;", "target": "0"}, "probability of exactly 0"),
        ("cross_entropy", {"input": "inf,0;", "target": "0"}, "infinity from infinity"),
        ("cross_entropy", {"weight": "0 1 0"}, "add up to 0"),
        ("cross_entropy", {"target": "1,1,0;0,0,1"}, "add up to 2"),
        ("cross_entropy", {"label_smoothing": "0.3"}, "0.639 is the least"),
        ("mse", {"input": "1e30", "target": "0"}, "float32 ends"),
        ("bce_with_logits", {"target": "2,0,0"}, "no least value"),
        ("bce", {"input": "1,0.5", "target": "0,1"}, "above -100"),
        ("l1", {"input": "1,2", "target": "1,3"}, "slope 0"),
    ],
)
def test_what_is_worth_knowing_is_said(name: str, values: dict[str, str], said: str) -> None:
    assert any(said in text for text in remarks(find(loss_of(name, **values))))


def test_an_ordinary_loss_is_not_told_anything_alarming() -> None:
    assert remarks(find(loss_of("mse"))) == []


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "field", "said"),
    [
        ("mse", {"input": "1,x,3"}, "input", r"'x' at \[1\] is no number"),
        ("mse", {"input": "1,,3"}, "input", r"there is no number at \[1\]"),
        ("mse", {"input": "1,2;3"}, "input", r"shape \(1,\) and the first has \(2,\)"),
        ("mse", {"input": ",".join(["1"] * 401)}, "input", "401 numbers.*at most 400"),
        ("mse", {"input": ",".join(["1"] * 10_000)}, "input", "10000 numbers.*at most 400"),
        ("mse", {"input": "1" * 30_000}, "input", "longer than 20000"),
        ("mse", {"input": "[[[[[1]]]]]"}, "input", "5 axes"),
        ("mse", {"input": "1,2", "target": "inf,1"}, "target", "infinite or NaN"),
        ("mse", {"input": "1,2", "target": "1e39,1"}, "target", "infinite or NaN as float32"),
        ("mse", {"input": "1,2", "target": "1,2,3"}, "target", "one target for each input"),
        ("mse", {"input": "1;2", "target": "1,2"}, "target", r"Write the targets as \(2, 1\)"),
        ("bce", {"input": "1;0", "target": "1,0"}, "target", "wants one shape"),
        ("bce", {"input": "1.5,0,0"}, "input", "1.5 is no probability.*BCEWithLogitsLoss"),
        ("bce", {"input": "nan,0,0"}, "input", "no probability"),
        ("bce", {"target": "-1,0,0"}, "target", "-1 is no probability"),
        ("bce", {"weight": "1,2"}, "weight", r"weight \(2,\) does not go with inputs \(3,\)"),
        ("bce", {"weight": "1,2,3", "weight_by_target": "1 2"}, "weight", "keep one"),
        ("bce", {"weight_by_target": "1"}, "weight_by_target", "write two numbers"),
        ("bce", {"weight_by_target": "1 2", "target": "0.7,0,0"}, "weight_by_target", "cuts"),
        ("bce_with_logits", {"pos_weight": "1 2"}, "pos_weight", "does not go with"),
        ("cross_entropy", {"input": "1,2,3", "target": "0"}, "input", "end the row with ;"),
        ("cross_entropy", {"target": "0,3"}, "target", "3 is no class: there are 3"),
        ("cross_entropy", {"target": "0,-1"}, "target", "-1 is no class"),
        ("cross_entropy", {"target": "0,0.5"}, "target", "0.5 is no class"),
        ("cross_entropy", {"target": "0;2"}, "target", "write them in one row"),
        ("cross_entropy", {"target": "0,1,2"}, "target", r"one class number.*\(2,\), or the prob"),
        ("cross_entropy", {"target": "-1,1,1;0,1,0"}, "target", "-1 is no probability"),
        ("cross_entropy", {"weight": "1 2"}, "weight", "2 weights for 3 classes"),
        ("cross_entropy", {"target": "1,0,0;0,1,0", "ignore_index": "1"}, "ignore_index", "leave"),
        ("cross_entropy", {"input": ",".join("1" * 21) + ";", "target": "0"}, "input", "20"),
        ("nll", {"target": "1,0,0;0,1,0"}, "target", "one class number for each place"),
        ("kl_div", {"target": "-0.1,0.6,0.5;0.5,0.25,0.25"}, "target", "-0.1 is no probability"),
        ("kl_div", {"log_target": "on"}, "target", "never above 0"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_field(
    name: str, values: dict[str, str], field: str, said: str
) -> None:
    with pytest.raises(Unfit, match=said) as refused:
        find(loss_of(name, **values))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("name", "values", "field"),
    [
        ("huber", {"delta": "0"}, "delta"),
        ("huber", {"delta": "x"}, "delta"),
        ("smooth_l1", {"beta": "-1"}, "beta"),
        ("mse", {"reduction": "max"}, "reduction"),
        ("cross_entropy", {"weight": "1 -2 3"}, "weight"),
        ("cross_entropy", {"label_smoothing": "2"}, "label_smoothing"),
        ("cross_entropy", {"ignore_index": "1.5"}, "ignore_index"),
        ("bce_with_logits", {"pos_weight": "inf"}, "pos_weight"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_by_its_field(
    name: str, values: dict[str, str], field: str
) -> None:
    form = part_form(LOSSES[name], values)
    assert form.part is None
    assert set(form.errors) == {field}


# -- numbers as text ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("5", (1,)), ("1,2,3", (3,)), ("1;2;3", (3, 1)), ("1,2;", (1, 2)), ("1,2\n3,4", (2, 2)),
        ("1,2;3,4|5,6;7,8", (2, 2, 2)), ("1,2;3,4|5,6;7,8/", (1, 2, 2, 2)),
        ("tensor([[ 0.5, 1.8591],\n        [1, 2.]])", (2, 2)), ("[[1, 2, 3]]", (1, 3)),
        ("array([1., 2.])", (2,)), ("[[[[1, 2], [3, 4]]]]", (1, 1, 2, 2)),
    ],
)  # fmt: skip
def test_a_text_has_a_shape_and_can_be_written_again(text: str, shape: tuple[int, ...]) -> None:
    found = numbers(text)
    assert found.shape == shape
    assert numbers(found.text) == found
    assert numbers(as_rows(found.tensor())).shape == shape


@pytest.mark.parametrize(
    ("name", "change", "shapes"),
    [
        ("mse", "more rows", ((3, 2), (3, 2))),
        ("mse", "fewer columns", ((2, 1), (2, 1))),
        ("bce", "more columns", ((4,), (4,))),
        ("bce", "more rows", ((3,), (3,))),
        ("cross_entropy", "more columns", ((2, 4), (2,))),
        ("cross_entropy", "more rows", ((3, 3), (3,))),
        ("cross_entropy", "nonsense", ((2, 3), (2,))),
    ],
)
def test_a_changed_shape_still_goes_together(
    name: str, change: str, shapes: tuple[tuple[int, ...], ...]
) -> None:
    loss = loss_of(name)
    texts = resized(type(loss), loss.input, loss.target, change)
    assert (numbers(texts["input"]).shape, numbers(texts["target"]).shape) == shapes
    find(loss.model_copy(update=texts))


def test_a_last_row_stays() -> None:
    texts = resized(LOSSES["mse"], "1,2;", "3,4;", "fewer rows")
    assert texts == {"input": "1,2;", "target": "3,4;"}
