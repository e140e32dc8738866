"""moving_digits: what its clips show, and what neither a frame nor the motion alone tells."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab
from pydantic import ValidationError
from torch import nn

from app.models import Status
from trainer.recipes import RECIPES
from trainer.tasks import DataFolders, Examples, MovingDigits, TaskData
from trainer.tasks.digits import read_digits
from trainer.tasks.moving_digits import FASTEST, TEST_CLIPS

DOWN_AND_RIGHT = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def loaded(task: MovingDigits, folder: Path) -> TaskData:
    return task.load(DataFolders(folder, download=False))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return loaded(MovingDigits(), tmp_path_factory.mktemp("data"))


def test_every_class_has_as_many_clips(data: TaskData) -> None:
    facts = MovingDigits().facts()
    assert facts.classes[:5] == ("0 up", "0 down", "0 left", "0 right", "1 up")
    assert data.train.targets.bincount().tolist() == [120] * 12
    assert data.test.targets.bincount().tolist() == [TEST_CLIPS] * 12


def test_the_first_clips_are_of_many_classes(data: TaskData) -> None:
    # those are the ones whose layer outputs are kept
    assert len(set(data.test.targets[:8].tolist())) > 3


@pytest.mark.parametrize("frames", [8, 16])
def test_a_clip_moves_in_the_direction_of_its_class(frames: int, tmp_path: Path) -> None:
    task = MovingDigits(frames=frames, clips_of_each=10)
    classes = task.facts().classes
    train = loaded(task, tmp_path).train
    assert train.inputs.shape == (120, 1, frames, 16, 16)
    assert train.inputs.dtype == torch.uint8
    speeds = set()
    for clip, target in zip(train.inputs[:, 0], train.targets.tolist(), strict=True):
        direction = DOWN_AND_RIGHT[classes[target].split()[1]]
        fitting = [
            speed
            for speed in range(1, FASTEST + 1)
            if all(
                torch.equal(
                    after, before.roll((direction[0] * speed, direction[1] * speed), (0, 1))
                )
                for before, after in itertools.pairwise(clip)
            )
        ]
        assert len(fitting) == 1
        speeds.update(fitting)
    assert speeds == {1, 2}


def test_a_clip_shows_a_digit_of_its_class_and_none_of_the_other_part(tmp_path: Path) -> None:
    data = loaded(MovingDigits(clips_of_each=30), tmp_path)
    digits_to_train, digits_to_test = read_digits()
    for clips, own, other in (
        (data.train, digits_to_train, digits_to_test),
        (data.test, digits_to_test, digits_to_train),
    ):
        shown = in_first_frames(clips)
        of_own, of_other = on_canvas(own), on_canvas(other)
        for glyph, target in zip(shown, clips.targets.tolist(), strict=True):
            assert of_own[glyph] == (0, 1, 7)[target // 4]
            assert glyph not in of_other


def in_first_frames(clips: Examples) -> list[bytes]:
    return [least_move(clip[0, 0]) for clip in clips.inputs]


def on_canvas(digits: Examples) -> dict[bytes, int]:
    """The class of each digit of 8x8 pixels, by what it is in a frame wherever it stands."""
    canvas = torch.zeros(len(digits), 16, 16, dtype=torch.uint8)
    canvas[:, :8, :8] = digits.inputs[:, 0]
    keys = map(least_move, canvas)
    return dict(zip(keys, digits.targets.tolist(), strict=True))


def least_move(frame: torch.Tensor) -> bytes:
    """Of the 256 frames that a frame can be moved to, round the edges, the least by its bytes."""
    pixels = frame.numpy()
    twice = np.tile(pixels, (2, 2))
    windows = np.lib.stride_tricks.sliding_window_view(twice, (16, 16))[:16, :16]
    return min(window.tobytes() for row in windows for window in row)


def test_the_clips_of_a_digit_do_not_depend_on_the_others(tmp_path: Path) -> None:
    both = loaded(MovingDigits(digits=(3, 8), clips_of_each=5), tmp_path).train
    alone = loaded(MovingDigits(digits=(8,), clips_of_each=5), tmp_path).train

    def of_eight(clips: Examples, first: int) -> list[bytes]:
        kept = clips.inputs[(clips.targets >= first) & (clips.targets < first + 4)]
        return sorted(clip.numpy().tobytes() for clip in kept)

    assert of_eight(both, 4) == of_eight(alone, 0)
    assert len(set(of_eight(alone, 0))) == 20


def test_a_single_frame_tells_nothing_of_the_direction(data: TaskData) -> None:
    # over all places a frame of each direction is the same on the average, to what chance leaves
    frames = data.train.inputs[:, 0, 7].double()
    whole = frames.mean(0)
    noise = frames.std() / len(frames) ** 0.5
    for number in range(4):
        mean = frames[data.train.targets % 4 == number].mean(0)
        assert (mean - whole).abs().max() < 4.5 * noise * 3**0.5


def test_a_network_that_learns_from_single_frames_stays_at_chance_about_the_direction(
    data: TaskData,
) -> None:
    torch.manual_seed(0)
    train, test = (
        (part.inputs[:, 0, 7].flatten(1).float() / 16, part.targets % 4)
        for part in (data.train, data.test)
    )
    network = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        loss = nn.functional.cross_entropy(network(train[0]), train[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (network(test[0]).argmax(1) == test[1]).double().mean()
    # it has learned its own clips by heart, and of others knows nothing: 25 % and some chance
    assert (network(train[0]).argmax(1) == train[1]).double().mean() > 0.9
    assert right < 0.25 + 4 * (0.25 * 0.75 / len(test[1])) ** 0.5


def test_a_digit_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="digits names one twice"):
        MovingDigits(digits=(1, 1))


def test_the_longest_choice_of_clips_stays_small() -> None:
    most = MovingDigits(digits=tuple(range(10)), clips_of_each=1000, frames=16).facts()
    assert most.train_examples * 16 * 16 * 16 <= 164e6
    with pytest.raises(ValidationError):
        MovingDigits(clips_of_each=1001)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_recipe_tells_digits_and_directions_apart(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(RECIPES["moving-digits-p3d"].config))
    assert run.status == Status.FINISHED
    assert run.result["val_accuracy"] >= 0.85
