"""shifts: one picture as the network sees it, epoch after epoch."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from trainer.batch import Batch
from trainer.config import RunConfig
from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Picture, Pictures, Shown, Table
from trainer.lessons.training import prepared
from trainer.part import Refused
from trainer.setup import Setup
from trainer.tasks import Digits
from trainer.tricks import RandomShift

EPOCHS = 12


class ShiftsLesson(Lesson):
    """Look at one training picture in twelve epochs, and at the same picture in other batches.

    How far a picture moves is a function of the run's seed, the epoch and the picture's number.
    So it does not matter which batch it comes in, which process loads it, or whether the run was
    stopped in between: other ways of drawing make two runs differ in their data as soon as one of
    these changes, and what is compared is then not the trick alone.
    """

    title: ClassVar[str] = "The same picture, moved"
    tricks: ClassVar[tuple[str, ...]] = ("random_shift",)
    name: Literal["shifts"] = "shifts"
    pixels: int = Field(1, ge=1, le=7, description="Most that it is moved in each direction.")
    padding: Literal["zero", "edge"] = Field("zero", description="What is uncovered.")
    flip: bool = Field(False, description="Also mirrored, every other time by chance.")
    seed: int = Field(0, ge=0, le=100, description="The run's seed.")
    picture: int = Field(0, ge=0, le=1400, description="Which training picture.")

    def show(self, bench: Bench) -> Shown:
        data = Digits().load(bench.data)
        if self.picture >= len(data.train):
            raise Refused(f"there are {len(data.train)} pictures; choose a lower number")
        trick = RandomShift(pixels=self.pixels, padding=self.padding, flip=self.flip)
        setup = prepared(RunConfig(seed=self.seed), data, [trick])
        alone = [self.seen(setup, data.train.inputs, [self.picture], e) for e in range(EPOCHS)]
        others = [self.picture, *(n for n in range(5) if n != self.picture)]
        beside = [self.seen(setup, data.train.inputs, others, e) for e in range(EPOCHS)]
        same = sum(torch.equal(one, two) for one, two in zip(alone, beside, strict=True))
        different = len({tuple(one.flatten().tolist()) for one in alone})
        return Shown(
            verdict=f"In {EPOCHS} epochs the network sees {different} different pictures of this "
            f"one; in a batch with others it sees the same in {same} of {EPOCHS}.",
            figures=(
                Pictures(
                    f"Picture {self.picture}, a {data.train.targets[self.picture]}",
                    [Picture("stored", data.train.inputs[self.picture, 0].tolist())],
                ),
                Pictures(
                    "As it is trained on",
                    [Picture(f"epoch {e}", one.tolist()) for e, one in enumerate(alone)],
                ),
                Table(
                    "How many ways there are",
                    ("Pixels", "Places", "With flips"),
                    [(n, (2 * n + 1) ** 2, 2 * (2 * n + 1) ** 2) for n in range(1, 5)],
                ),
            ),
            numbers={"different": different, "same_beside_others": same},
        )

    def seen(
        self, setup: Setup, inputs: torch.Tensor, members: list[int], epoch: int
    ) -> torch.Tensor:
        """The first of these examples as the model gets it, (H, W)."""
        numbers = torch.tensor(members)
        batch = Batch(inputs[numbers], torch.zeros(len(members)), numbers, epoch)
        return setup.ready(batch).inputs[0, 0]
