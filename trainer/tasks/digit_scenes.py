"""digit_scenes: scenes composed of real handwritten digits, with a class for every pixel."""

from typing import ClassVar, Literal

import torch

from trainer.data_folders import DataFolders
from trainer.streams import generator
from trainer.targets import Kind
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts
from trainer.tasks.digits import read_digits

SIDE, DIGIT = 32, 8
CELLS = SIDE // DIGIT
"""A scene has CELLS x CELLS places for digits, each moved a little from its place."""
MOST_DIGITS = 5
INK = 16
"""The stored value of a pixel that is all ink."""
UNKNOWN = 255
TRAIN_SCENES, TEST_SCENES = 2000, 400


class DigitScenes(Task):
    """Find and name digits: 1 to 5 real ones strewn over 32x32 pixels, a class for every pixel.

    Eleven classes: background and ten digits. A pixel with less than half of its ink is marked as
    unknown (255) and counts in no loss and no score, as the outlines of PASCAL VOC do. Nine tenths
    of the pixels are background, so class weights have something to do.
    """

    title: ClassVar[str] = "Digit scenes"
    source: ClassVar[str] = (
        "Composed here of the digits of UCI Optical Recognition of Handwritten Digits (Alpaydin "
        "and Kaynak, 1998; CC BY 4.0); test scenes of digits that no training scene has"
    )
    same_mirrored: ClassVar[bool] = False
    name: Literal["digit_scenes"] = "digit_scenes"

    def facts(self) -> TaskFacts:
        return TaskFacts(
            input_shape=(1, SIDE, SIDE),
            outputs=11,
            classes=("background", *"0123456789"),
            train_examples=TRAIN_SCENES,
            test_examples=TEST_SCENES,
            kind=Kind.PIXELS,
            ignored=UNKNOWN,
        )

    def load(self, folders: DataFolders) -> TaskData:
        digits_to_train, digits_to_test = read_digits()
        train = scenes(digits_to_train, TRAIN_SCENES, "train")
        stored = train.inputs.float()
        return TaskData(
            train,
            scenes(digits_to_test, TEST_SCENES, "test"),
            mean=float(stored.mean()),
            spread=float(stored.std()),
        )


def scenes(digits: Examples, number: int, part: str) -> Examples:
    """Scenes (N, 1, 32, 32) from 0 to 16 and their classes (N, 32, 32), always the same ones."""
    draw = generator(0, "digit_scenes", part)
    inputs = torch.zeros(number, SIDE, SIDE, dtype=torch.uint8)
    targets = torch.zeros(number, SIDE, SIDE, dtype=torch.int64)
    counts = torch.randint(1, MOST_DIGITS + 1, (number,), generator=draw).tolist()
    for scene, count in enumerate(counts):
        places = torch.randperm(CELLS * CELLS, generator=draw)[:count].tolist()
        chosen = torch.randint(len(digits), (count,), generator=draw).tolist()
        for place, digit in zip(places, chosen, strict=True):
            corner = place // CELLS * DIGIT, place % CELLS * DIGIT
            put(
                inputs[scene],
                targets[scene],
                corner,
                digits.inputs[digit, 0],
                digits.targets[digit],
            )
    shifts = torch.randint(0, SIDE, (number, 2), generator=draw).tolist()
    for scene, shift in enumerate(shifts):
        # around the edge and back in on the other side: digits stand anywhere, cut ones too
        inputs[scene] = inputs[scene].roll(shift, (0, 1))
        targets[scene] = targets[scene].roll(shift, (0, 1))
    return Examples(inputs.unsqueeze(1), targets)


def put(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    corner: tuple[int, int],
    digit: torch.Tensor,
    label: torch.Tensor,
) -> None:
    """Write a digit (8, 8) and the classes of its pixels into a scene."""
    place = (slice(corner[0], corner[0] + DIGIT), slice(corner[1], corner[1] + DIGIT))
    inputs[place] = digit
    is_ink, is_faint = digit >= INK // 2, (digit > 0) & (digit < INK // 2)
    targets[place] = torch.where(is_ink, label + 1, torch.where(is_faint, UNKNOWN, 0))
