"""fold_time: frames of clips as a batch of pictures, by view right and wrong."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from trainer.inquiry import Bench
from trainer.layouts import Call, explain
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Picture, Pictures, Shown, Table
from trainer.tasks import Digits

SIDE = 12
MOST_SHOWN = 8


class FoldTimeLesson(Lesson):
    """Fold the frames of clips (N, C, T, H, W) into a batch of pictures (N*T, C, H, W).

    `view` regards the same memory under other sizes and moves nothing: in memory the channels of a
    clip lie outside its frames, so `x.view(-1, C, H, W)` puts several moments of one channel where
    the channels of one moment belong. The shapes are right, and the pictures are wrong. The axes
    have to be exchanged first, and then the memory of several clips no longer fits: `reshape`
    copies.
    """

    title: ClassVar[str] = "Folding time into the batch"
    note: ClassVar[int] = 4
    name: Literal["fold_time"] = "fold_time"
    clips: int = Field(2, ge=1, le=4, description="Clips in the batch, N.")
    channels: int = Field(3, ge=1, le=3, description="Channels of each frame, C.")
    frames: int = Field(4, ge=1, le=8, description="Frames of each clip, T.")

    def show(self, bench: Bench) -> Shown:
        clips = self.moving_digits(Digits().load(bench.data).train.inputs)
        n, c, t, h, w = clips.shape
        right = clips.transpose(1, 2).reshape(n * t, c, h, w)
        wrong = clips.view(-1, c, h, w)
        same = [torch.equal(one, two) for one, two in zip(wrong, right, strict=True)]
        is_copied = right.untyped_storage().data_ptr() != clips.untyped_storage().data_ptr()
        refused = self.refusal(clips)
        return Shown(
            verdict=self.verdict(same, is_copied),
            figures=(
                pictures("x.transpose(1, 2).reshape(-1, C, H, W): the frames", right, t),
                pictures("x.view(-1, C, H, W): the same shape", wrong, t),
                self.origins(n, c, t),
                rows_of_p3d(),
            ),
            remarks=(
                f"x.transpose(1, 2).view(-1, C, H, W) {refused}",
                "Channels are drawn as greys beside one another, frame by frame.",
            ),
            numbers={"same": same, "shape": list(wrong.shape), "is_copied": is_copied},
        )

    def moving_digits(self, digits: torch.Tensor) -> torch.Tensor:
        """Real digits that move to the right, a pixel a frame; a digit of its own per channel."""
        clips = torch.zeros(self.clips, self.channels, self.frames, SIDE, SIDE)
        for clip in range(self.clips):
            for channel in range(self.channels):
                picture = digits[clip * self.channels + channel, 0].float()
                for frame in range(self.frames):
                    left = frame % (SIDE - 7)
                    clips[clip, channel, frame, 2:10, left : left + 8] = picture
        return clips

    def refusal(self, clips: torch.Tensor) -> str:
        """What is said to a view of the exchanged axes."""
        n, c, t, h, w = clips.shape
        calls = (Call("transpose", (1, 2)), Call("view", (n * t, c, h, w)))
        last = explain(clips.shape, calls)[-1]
        if last.after is not None:
            return "works here too, since one of the axes that are to be joined has length 1."
        return f"is refused: {last.cause}."

    def origins(self, n: int, c: int, t: int) -> Table:
        """Where each channel of the first pictures by view comes from."""
        places = torch.arange(n * c * t).view(-1, c)
        rows = []
        for number, picture in enumerate(places.tolist()[:MOST_SHOWN]):
            parts = [f"channel {at // t % c} at frame {at % t}" for at in picture]
            wanted = [f"channel {k} at frame {number % t}" for k in range(c)]
            rows.append((f"picture {number}", ", ".join(parts), ", ".join(wanted)))
        return Table("What lies in each picture", ("By view", "It holds", "It should hold"), rows)

    def verdict(self, same: list[bool], is_copied: bool) -> str:
        right = sum(same)
        if right == len(same):
            return (
                "With one channel or one frame the two agree: there is nothing to exchange. Take "
                "two of each."
            )
        return (
            f"view gives the right shape and {right} of {len(same)} right pictures; transpose and "
            f"reshape give all of them, {'with' if is_copied else 'here even without'} a copy."
        )


def pictures(title: str, batch: torch.Tensor, frames: int) -> Pictures:
    """The channels of each picture side by side. batch (N*T, C, H, W)."""
    shown = []
    for number, picture in enumerate(batch[:MOST_SHOWN]):
        # (C, H, W) -> (H, C * W)
        beside = picture.permute(1, 0, 2).flatten(1)
        shown.append(Picture(f"clip {number // frames}, frame {number % frames}", beside.tolist()))
    return Pictures(title, shown)


def rows_of_p3d() -> Table:
    """What P3D's own last view makes of longer clips: its head sees clips as more examples."""
    rows = []
    for frames in (16, 32, 48):
        # the network halves time three times, and its pooling takes two of what is left
        left = frames // 16
        (step,) = explain((1, 2048, left, 1, 1), (Call("view", (-1, 2048)),))
        assert step.after is not None
        rows.append((f"{frames} frames", f"1 x 2048 x {left} x 1 x 1", step.after.shape[0]))
    columns = ("One clip of", "Pooled features", "Rows after view(-1, 2048)")
    return Table("The same in P3D's own forward: a longer clip becomes several", columns, rows)
