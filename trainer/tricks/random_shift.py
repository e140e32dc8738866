"""random_shift: every training image is moved by a few pixels, anew in every epoch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.batch import Batch
from trainer.part import Refused
from trainer.setup import Setup
from trainer.streams import sample_draws
from trainer.tricks.base import Claim, Exactness, Stage, Trick


class RandomShift(Trick):
    """Move every training image by up to some pixels up or down and left or right.

    The network sees each image in another place in each epoch and cannot learn it by heart. How
    far an image moves is drawn from the run's seed, the epoch and the image's number alone:
    loader processes, the batch size, other tricks and a pause change nothing about it.
    """

    title: ClassVar[str] = "Random shifts"
    stage: ClassVar[Stage] = Stage.DATA
    exactness: ClassVar[Exactness] = Exactness.DIFFERENT
    claim: ClassVar[Claim] = Claim(
        "accuracy",
        lower=False,
        source="Krizhevsky, Sutskever and Hinton (2012), ImageNet Classification, section 4.1; "
        "He et al. (2016), Deep Residual Learning, section 4.2",
    )
    helps: ClassVar[tuple[str, ...]] = (
        "Few pictures and many epochs: the network begins to learn them by heart.",
    )
    cost: ClassVar[str] = "Some time per batch on the device; training takes more epochs."
    traps: ClassVar[tuple[str, ...]] = (
        "Digits and letters must not be mirrored: they become other signs, or none.",
        "The training loss and accuracy are those of the moved images and look worse than they "
        "are; compare by the test examples, which are never moved.",
        "What is uncovered must look like background: zeros fit images that are dark around, "
        "the edge fits photographs.",
        "Training takes more epochs until it pays; in a short one it can cost accuracy.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "Shorten and Khoshgoftaar, A survey on Image Data Augmentation for Deep Learning, 2019",
    )
    name: Literal["random_shift"] = "random_shift"
    pixels: int = Field(
        1,
        ge=1,
        le=256,
        description="Most that an image is moved in each direction, in pixels; every distance up "
        "to it is as likely. A tenth of the side is usual.",
    )
    padding: Literal["zero", "edge"] = Field(
        "zero",
        description="What is uncovered: zero is the stored zero (black), normalised like the "
        "image; edge repeats the image's outermost pixels.",
    )
    flip: bool = Field(
        False,
        description="Also mirror every other image left to right, by chance; not for digits or "
        "letters.",
    )

    def unfit(self, input_shape: tuple[int, ...]) -> str | None:
        """Why inputs of this shape (without the batch) cannot be moved, or None."""
        shape = "x".join(map(str, input_shape))
        if len(input_shape) != 3:
            return (
                f"random_shift moves images (channels, height, width), and the inputs are {shape}; "
                "switch it off or choose a task of images"
            )
        if self.pixels >= min(input_shape[1:]):
            return (
                f"random_shift by {self.pixels} pixels leaves nothing of an image of {shape}; "
                f"lower pixels below {min(input_shape[1:])} or switch it off"
            )
        return None

    def apply(self, setup: Setup) -> None:
        if why := self.unfit(setup.input_shape):
            raise Refused(why)
        setup.trick_state[self.name] = shifts = Shifts(self, setup)
        setup.change_batch.append(shifts.change)

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        shifts = setup.trick_state[self.name]
        assert isinstance(shifts, Shifts)
        examples = shifts.examples
        moves = 2 * self.pixels + 1
        return {
            "examples": examples,
            "shifted": shifts.shifted,
            "mirrored": shifts.mirrored,
            "mean_absolute_shift": shifts.distance / (2 * examples) if examples else 0.0,
            "expected_absolute_shift": self.pixels * (self.pixels + 1) / moves,
        }


class Shifts:
    """Moves the images of training batches, and counts what it did to them."""

    def __init__(self, trick: RandomShift, setup: Setup) -> None:
        self.trick, self.setup = trick, setup
        self.background: torch.Tensor | None = None
        self.examples = self.shifted = self.mirrored = self.distance = 0

    def change(self, batch: Batch) -> Batch:
        moves, mirrored = self.drawn(batch)
        # counted from what was drawn on the host: the device is asked for nothing
        self.count(moves, mirrored)
        device = batch.inputs.device
        images = moved(
            batch.inputs,
            moves.to(device, non_blocking=True),
            None if mirrored is None else mirrored.to(device, non_blocking=True),
            self.uncovered(batch.inputs),
        )
        return Batch(images, batch.targets, batch.examples, batch.epoch)

    def drawn(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """How far each image moves down and right (N, 2) int64, and which are mirrored (N,)."""
        assert batch.examples is not None, "a training batch knows which examples it holds"
        trick = self.trick
        # 63 random bits modulo a few hundred: the bias is beyond measuring
        draws = sample_draws(
            self.setup.seed, batch.epoch, batch.examples, trick.name, 3 if trick.flip else 2
        )
        moves = draws[:, :2] % (2 * trick.pixels + 1) - trick.pixels
        return moves, draws[:, 2] % 2 == 1 if trick.flip else None

    def count(self, moves: torch.Tensor, mirrored: torch.Tensor | None) -> None:
        self.examples += len(moves)
        self.shifted += int(moves.any(dim=1).sum())
        self.distance += int(moves.abs().sum())
        self.mirrored += 0 if mirrored is None else int(mirrored.sum())

    def uncovered(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """What stored zeros are as model inputs, (1, C, H, W); None where the edge is repeated.

        Made on the device, once: another device may round its normalising differently.
        """
        if self.trick.padding == "zero" and self.background is None:
            black = torch.zeros_like(inputs[:1], dtype=torch.uint8)
            self.background = self.setup.prepare(Batch(black, black)).inputs
        return self.background

    def state_dict(self) -> dict[str, Any]:
        return {
            "examples": self.examples,
            "shifted": self.shifted,
            "mirrored": self.mirrored,
            "distance": self.distance,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.examples, self.shifted = state["examples"], state["shifted"]
        self.mirrored, self.distance = state["mirrored"], state["distance"]


def moved(
    images: torch.Tensor,
    moves: torch.Tensor,
    mirrored: torch.Tensor | None,
    background: torch.Tensor | None,
) -> torch.Tensor:
    """Each image (N, C, H, W), mirrored where told (N,), then moved (N, 2) down and right.

    What is uncovered shows `background` (1, C, H, W), or the nearest pixel of the edge where
    that is None.
    """
    number, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) - moves[:, :1]
    columns = torch.arange(width, device=images.device) - moves[:, 1:]
    inside_rows, inside_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    taken = inside_columns
    if mirrored is not None:
        taken = torch.where(mirrored[:, None], width - 1 - taken, taken)
    pixels = (inside_rows[:, :, None] * width + taken[:, None, :]).view(number, 1, -1)
    found = images.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(images)
    if background is None:
        return found
    covered = (rows == inside_rows)[:, :, None] & (columns == inside_columns)[:, None, :]
    return torch.where(covered[:, None], found, background)
