"""moving_digits: clips of real handwritten digits that move, named by digit and direction."""

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator

from trainer.data_folders import DataFolders
from trainer.part import whole_number
from trainer.streams import generator
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts
from trainer.tasks.digits import read_digits
from trainer.tasks.selection import ClassNumber

SIDE, DIGIT = 16, 8
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Rows down and columns right that a digit moves from frame to frame, at speed 1."""
FASTEST = 2
TEST_CLIPS = 30


class MovingDigits(Task):
    """Name a digit and where it moves: grey clips of 16x16 pixels, digits times four directions.

    A digit starts anywhere, moves one or two pixels a frame, and comes back in on the other side.
    So a single frame tells nothing of the direction, and the motion alone nothing of the digit.
    Always the same clips; those of a digit do not depend on which others are chosen.
    """

    title: ClassVar[str] = "Moving digits"
    source: ClassVar[str] = (
        "Composed here of the digits of UCI Optical Recognition of Handwritten Digits (Alpaydin "
        "and Kaynak, 1998; CC BY 4.0): moving-digit clips made from real digits; test clips of "
        "digits that no training clip has"
    )
    same_mirrored: ClassVar[bool] = False
    name: Literal["moving_digits"] = "moving_digits"
    digits: tuple[ClassNumber, ...] = Field(
        (0, 1, 7),
        min_length=1,
        max_length=10,
        description="Digits that move, such as 0 1 7; each with the four directions is four "
        "classes.",
    )
    frames: Annotated[Literal[8, 16], BeforeValidator(whole_number)] = Field(
        16, description="Length of a clip; p3d halves it up to four times."
    )
    clips_of_each: int = Field(
        120,
        ge=2,
        le=1000,
        description=f"Clips of each class to train on, 2 or 4 KB each; {TEST_CLIPS} to test on.",
    )

    @model_validator(mode="after")
    def digits_are_named_once(self) -> Self:
        if len(set(self.digits)) < len(self.digits):
            raise ValueError("digits names one twice; name each once")
        return self

    def facts(self) -> TaskFacts:
        classes = tuple(f"{digit} {direction}" for digit in self.digits for direction in DIRECTIONS)
        return TaskFacts(
            input_shape=(1, self.frames, SIDE, SIDE),
            outputs=len(classes),
            classes=classes,
            train_examples=len(classes) * self.clips_of_each,
            test_examples=len(classes) * TEST_CLIPS,
        )

    def load(self, folders: DataFolders) -> TaskData:
        digits_to_train, digits_to_test = read_digits()
        train = self.clips(digits_to_train, self.clips_of_each, "train")
        # numpy's, which sums bytes without a copy of them all as floats
        stored = train.inputs.numpy()
        return TaskData(
            train,
            self.clips(digits_to_test, TEST_CLIPS, "test"),
            mean=float(stored.mean()),
            spread=float(stored.std()),
        )

    def clips(self, examples: Examples, of_each: int, part: str) -> Examples:
        """Clips (N, 1, T, 16, 16) from 0 to 16 and their classes (N,), in a mixed order."""
        of_digits = [
            moving(
                examples.inputs[examples.targets == digit, 0],
                of_each,
                self.frames,
                generator(0, "moving_digits", part, digit),
            )
            for digit in self.digits
        ]
        targets = torch.arange(4 * len(self.digits)).repeat_interleave(of_each)
        order = torch.randperm(len(targets), generator=generator(0, "moving_digits", part))
        return Examples(torch.cat(of_digits)[order], targets[order])


def moving(digits: torch.Tensor, of_each: int, frames: int, draw: torch.Generator) -> torch.Tensor:
    """Clips (4 * of_each, 1, frames, 16, 16) of some of these digits (N, 8, 8), by direction."""
    number = len(DIRECTIONS) * of_each
    chosen = torch.randint(len(digits), (number,), generator=draw)
    starts = torch.randint(SIDE, (number, 2), generator=draw)
    speeds = torch.randint(1, FASTEST + 1, (number, 1), generator=draw)
    steps = torch.tensor(list(DIRECTIONS.values())).repeat_interleave(of_each, dim=0) * speeds
    places = starts[:, None] + torch.arange(frames)[:, None] * steps[:, None]
    canvas = torch.zeros(len(digits), SIDE, SIDE, dtype=digits.dtype)
    canvas[:, :DIGIT, :DIGIT] = digits
    # each pixel of a frame shows the one of the canvas that the moves brought there
    axis = torch.arange(SIDE)
    rows, columns = ((axis - places[:, :, one, None]) % SIDE for one in (0, 1))
    clips = canvas[chosen[:, None, None, None], rows[:, :, :, None], columns[:, :, None, :]]
    return clips.unsqueeze(1)
