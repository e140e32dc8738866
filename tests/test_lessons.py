"""The live lessons: what they show is what PyTorch says for the same numbers."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainer.data_folders import DataFolders
from trainer.inquiry import Bench
from trainer.lessons import LESSONS, Lesson
from trainer.lessons.accumulation import AccumulationLesson
from trainer.lessons.captured import CapturedLesson
from trainer.lessons.clip_feature import ClipFeatureLesson
from trainer.lessons.drift import DriftLesson
from trainer.lessons.fold_time import FoldTimeLesson
from trainer.lessons.frozen import FrozenLesson
from trainer.lessons.layer_rates import LayerRatesLesson
from trainer.lessons.loader_workers import LoaderWorkersLesson
from trainer.lessons.new_shapes import NewShapesLesson
from trainer.lessons.running_mean import RunningMeanLesson
from trainer.lessons.shifts import ShiftsLesson
from trainer.lessons.transfer import TransferLesson
from trainer.part import Refused, name_of
from trainer.streams import generator, sample_draws
from trainer.tasks import Digits
from trainer.tricks import TRICKS

QUICK: dict[type[Lesson], dict[str, Any]] = {
    LoaderWorkersLesson: {"decode_ms": 0.1, "train_ms": 1},
    NewShapesLesson: {"shapes": 2, "batch_size": 2, "side": 8},
}
MEASURED = (LoaderWorkersLesson, NewShapesLesson)
"""They take as long as they are to measure."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(torch.device("cpu"), DataFolders(tmp_path), lambda *told: None)


def shown(lesson: Lesson, bench: Bench) -> dict[str, Any]:
    return dict(lesson.answer(bench))


def figure(answer: dict[str, Any], title: str) -> Any:
    (found,) = (one for one in answer["figures"] if title in one["title"])
    return found


# -- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LESSONS, ids=name_of)
def test_a_lesson_says_something_and_draws_it(kind: type[Lesson], bench: Bench) -> None:
    answer = shown(kind(**QUICK.get(kind, {})), bench)
    assert answer["verdict"].endswith(".")
    assert answer["figures"]
    assert answer["numbers"]
    for one in answer["figures"]:
        if one["is"] == "table":
            assert {len(row) for row in one["rows"]} == {len(one["columns"])}
        elif one["is"] == "chart":
            assert one["lines"]
            for line in one["lines"]:
                assert len(line["x"]) == len(line["y"]) > 0
                assert all(math.isfinite(value) for value in line["y"])
        else:
            assert all(len({len(row) for row in each["values"]}) == 1 for each in one["pictures"])


@pytest.mark.parametrize("kind", [one for one in LESSONS if one not in MEASURED], ids=name_of)
def test_a_lesson_has_an_answer_at_both_ends_of_its_fields(
    kind: type[Lesson], bench: Bench
) -> None:
    schema = kind.model_json_schema()["properties"]
    for end in ("minimum", "maximum"):
        ends = {field: facts[end] for field, facts in schema.items() if end in facts}
        try:
            answer = shown(kind(**ends), bench)
        except Refused as refusal:
            assert len(str(refusal)) > 20  # noqa: PT017
        else:
            assert "nan" not in answer["verdict"]


@pytest.mark.parametrize("kind", LESSONS, ids=name_of)
def test_a_lesson_leaves_torch_as_it_was(kind: type[Lesson], bench: Bench) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    shown(kind(**QUICK.get(kind, {})), bench)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.backends.cudnn.benchmark


def test_lessons_stand_on_the_pages_of_tricks_that_there_are() -> None:
    known = set(map(name_of, TRICKS))
    named = set(itertools.chain.from_iterable(lesson.tricks for lesson in LESSONS))
    assert named == known, "every trick has a lesson"
    notes = {lesson.note for lesson in LESSONS}
    # the third note, on losses, has a bench
    assert notes >= {1, 2, 4, 5, 6, 7, 8}


# -- one by one -----------------------------------------------------------------------------


def test_accumulation_is_as_wrong_as_a_plain_loop_says(bench: Bench) -> None:
    lesson = AccumulationLesson(batches=4, batch_size=8, last_batch=3, class_weights=True)
    numbers = shown(lesson, bench)["numbers"]
    data = Digits().load(bench.data)
    model = lesson.setup(data).model
    weights = torch.linspace(1, 10, 10).double()
    inputs = ((data.train.inputs[:27].float() - data.mean) / data.spread).double()
    targets = data.train.targets[:27]

    def gradient(losses: list[torch.Tensor]) -> torch.Tensor:
        model.zero_grad()
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    large = gradient([F.cross_entropy(model(inputs), targets, weights)])
    parts = zip(inputs.split(8), targets.split(8), strict=True)
    small = gradient([F.cross_entropy(model(x), y, weights) / 4 for x, y in parts])
    wanted = float((small - large).norm() / large.norm())
    assert numbers["divided_by_k"] == pytest.approx(wanted, rel=1e-6)
    assert wanted > 0.1
    assert numbers["by_the_window"] < 1e-12


def test_batch_norm_is_what_no_divisor_mends(bench: Bench) -> None:
    numbers = shown(AccumulationLesson(batch_norm=True), bench)["numbers"]
    assert numbers["by_the_window"] > 0.05


def test_all_targets_ignored_is_refused_with_the_way_out(bench: Bench) -> None:
    lesson = AccumulationLesson(batches=2, batch_size=2, last_batch=1, ignored=90)
    with pytest.raises(Refused, match="lower ignored or take more"):
        shown(lesson, bench)


def test_the_running_mean_is_batch_norms_own(bench: Bench) -> None:
    lesson = RunningMeanLesson(momentum=0.2, batches=4, batch_size=8, jump=2)
    answer = shown(lesson, bench)
    numbers = torch.randn(60 * 32, 1, generator=generator(0, "lesson"))
    numbers[60 * 16 :] += 2
    remembered, wanted = 0.0, []
    for batch in numbers.double().split(32):
        remembered = 0.8 * remembered + 0.2 * float(batch.mean())
        wanted.append(remembered)
    lines = {line["name"]: line["y"] for line in figure(answer, "The running mean")["lines"]}
    assert lines["large batches, m"] == pytest.approx(wanted)
    errors = answer["numbers"]["errors"]
    assert errors["1-(1-m)^(1/k)"] < errors["m/k"] < errors["m"]


def test_a_frozen_weight_moves_by_zero_gradients_alone(bench: Bench) -> None:
    numbers = shown(FrozenLesson(), bench)["numbers"]
    assert numbers["set_to_none=False"]["weights"] > 0.01
    assert numbers["set_to_none=True"]["weights"] == 0
    assert numbers["the trick"] == {"weights": 0, "statistics": 0}
    assert numbers["set_to_none=True"]["statistics"] > 0.1


def test_without_momentum_and_decay_zero_gradients_move_nothing(bench: Bench) -> None:
    numbers = shown(FrozenLesson(momentum=0, weight_decay=0), bench)["numbers"]
    assert numbers["set_to_none=False"]["weights"] == 0


def test_weight_decay_alone_moves_a_frozen_weight_as_far_as_it_says(bench: Bench) -> None:
    lesson = FrozenLesson(momentum=0, weight_decay=0.05)
    far = shown(lesson, bench)["numbers"]["set_to_none=False"]["weights"]
    # each step multiplies by 1 - rate * decay
    assert far == pytest.approx(1 - (1 - 0.02 * 0.05) ** 30, rel=1e-3)


def test_seeded_trainings_are_the_same_and_unseeded_ones_part_at_the_dropout(bench: Bench) -> None:
    seeded = shown(DriftLesson(seeded=True, steps=10), bench)["numbers"]
    assert seeded["identical"]
    assert set(seeded["apart"]) == {0}
    unseeded = shown(DriftLesson(seeded=False, steps=10), bench)["numbers"]
    assert unseeded["first_difference"] == "the output of layer dropout (Dropout) differs at step 1"
    assert unseeded["apart"][0] == 0 < unseeded["apart"][1]


def test_one_bit_of_one_weight_grows(bench: Bench) -> None:
    lesson = DriftLesson(seeded=True, other="one bit of one weight", steps=30)
    numbers = shown(lesson, bench)["numbers"]
    assert "block1.conv.weight differs before the first step" in numbers["first_difference"]
    assert 0 < numbers["apart"][0] < 1e-6
    assert numbers["apart"][-1] > 10 * numbers["apart"][0]


@pytest.mark.parametrize(
    ("other", "phrase"),
    [("data order", "inputs of the batch"), ("initial weights", "initial value of block1")],
)
def test_what_else_differs_is_where_they_part(other: Any, phrase: str, bench: Bench) -> None:
    numbers = shown(DriftLesson(seeded=True, other=other, steps=3), bench)["numbers"]
    assert phrase in numbers["first_difference"]


def test_time_is_folded_as_torch_folds_it(bench: Bench) -> None:
    lesson = FoldTimeLesson(clips=2, channels=3, frames=4)
    answer = shown(lesson, bench)
    clips = lesson.moving_digits(Digits().load(bench.data).train.inputs)
    n, c, t, h, w = clips.shape
    right = torch.stack([clips[k, :, frame] for k in range(n) for frame in range(t)])
    pictures = figure(answer, "transpose")["pictures"]
    for number, each in enumerate(pictures):
        assert torch.equal(torch.tensor(each["values"]), torch.cat(list(right[number]), dim=1))
    wrong = clips.view(-1, c, h, w)
    wanted = [torch.equal(one, two) for one, two in zip(wrong, right, strict=True)]
    assert answer["numbers"]["same"] == wanted
    assert not any(wanted)


def test_with_one_channel_or_one_frame_view_folds_time_rightly(bench: Bench) -> None:
    assert all(shown(FoldTimeLesson(channels=1), bench)["numbers"]["same"])
    assert all(shown(FoldTimeLesson(frames=1), bench)["numbers"]["same"])


def test_one_clip_is_folded_without_a_copy_and_two_are_not(bench: Bench) -> None:
    for clips, copied in ((1, False), (2, True)):
        answer = shown(FoldTimeLesson(clips=clips), bench)
        assert answer["numbers"]["is_copied"] is copied
        assert ("is refused" in answer["remarks"][0]) is copied


def test_what_is_caught_before_an_operation_in_place_is_overwritten(bench: Bench) -> None:
    numbers = shown(CapturedLesson(in_place=True, copies=False), bench)["numbers"]
    assert numbers["wrong"] == ["block1.norm", "block2.norm", "block3.norm"]
    for fields in ({"copies": True}, {"in_place": False}):
        numbers = shown(CapturedLesson(**fields), bench)["numbers"]
        assert numbers["wrong"] == []
        assert numbers["head_of_feature_is_output"]


def test_looking_in_training_mode_moves_the_statistics(bench: Bench) -> None:
    assert shown(CapturedLesson(), bench)["numbers"]["buffers_moved"] == 0
    # mean, variance and count of three norms
    moved = shown(CapturedLesson(evaluates=False, copies=True), bench)["numbers"]["buffers_moved"]
    assert moved == 9


def test_the_feature_of_a_p3d_fed_to_its_last_layer_is_its_output(bench: Bench) -> None:
    for depth in (17, 63):
        numbers = shown(ClipFeatureLesson(depth=depth, width=2), bench)["numbers"]
        assert numbers["same"]
        assert numbers["attribute_is_the_same"]
    training = shown(ClipFeatureLesson(width=2, trains=True), bench)["numbers"]
    assert training["apart"] > 0
    assert not training["attribute_is_the_same"]


def test_a_p3d199_is_called_as_often_as_its_case_sheet_says(bench: Bench) -> None:
    numbers = shown(ClipFeatureLesson(depth=199, width=2, clips=1, side=16), bench)["numbers"]
    assert numbers["calls"] == 609


def test_rates_fall_by_the_decay_from_module_to_module(bench: Bench) -> None:
    rates = shown(LayerRatesLesson(decay=0.5), bench)["numbers"]["rates"]
    assert rates == {
        "block1.conv.weight": 0.125,
        "block2.conv.weight": 0.25,
        "block3.conv.weight": 0.5,
        "head.weight": 1.0,
    }


def test_a_shifted_picture_is_the_stored_one_moved(bench: Bench) -> None:
    answer = shown(ShiftsLesson(pixels=2, picture=5), bench)
    assert answer["numbers"]["same_beside_others"] == 12
    data = Digits().load(bench.data)
    stored = data.train.inputs[5].float()
    padded = nn.ZeroPad2d(2)(stored)
    for epoch, each in enumerate(figure(answer, "As it is trained on")["pictures"]):
        # what is drawn for this picture and no other, in whatever batch it comes
        draws = sample_draws(0, epoch, torch.tensor([5]), "random_shift", 2)
        down, right = (draws[0] % 5 - 2).tolist()
        moved = padded[:, 2 - down : 10 - down, 2 - right : 10 - right]
        seen = torch.tensor(each["values"])
        assert torch.allclose(seen, ((moved - data.mean) / data.spread)[0], atol=1e-5)


def test_a_picture_that_is_not_there_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="less than or equal to 1400"):
        ShiftsLesson(picture=1437)


def test_taking_over_what_was_not_trained_is_training_from_scratch(bench: Bench) -> None:
    answer = shown(TransferLesson(before=0, steps=20), bench)
    lines = {line["name"]: line["y"] for line in figure(answer, "Test accuracy while")["lines"]}
    assert lines["taken over"] == lines["from scratch"]
    assert lines["taken over and frozen"] != lines["from scratch"]


def test_without_a_gpu_it_is_told_that_nothing_was_searched(bench: Bench) -> None:
    answer = shown(NewShapesLesson(**QUICK[NewShapesLesson]), bench)
    assert "no CUDA device here" in answer["verdict"]
    assert answer["numbers"]["device"] == "cpu"


def test_workers_that_wait_for_a_disk_pay(bench: Bench) -> None:
    answer = shown(LoaderWorkersLesson(decode_ms=2, waits=True, train_ms=0), bench)
    rows = figure(answer, "Measured")["rows"]
    assert [row[0] for row in rows] == [0, 1, 2, 3, 4]
    assert all(0 <= row[2] <= 1 for row in rows)
    # four of them sleep at the same time, on any machine
    assert rows[4][1] > 1.5 * rows[0][1]
    assert answer["numbers"]["knee"] >= 1
