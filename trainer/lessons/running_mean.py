"""running_mean: what batch norm remembers of small batches, by how its momentum is chosen."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.proofs.running_statistics import RULES
from trainer.streams import generator

WINDOWS = 60


class RunningMeanLesson(Lesson):
    """Show the same numbers to batch norms in small batches and in large ones, and compare.

    Batch norm keeps a running mean for evaluation: `(1 - m) * old + m * new` after each batch. With
    k small batches instead of a large one it forgets k times as fast. Dividing the momentum by k,
    as is often advised, forgets a little too slowly; `1 - (1 - m)^(1/k)` forgets over k small
    batches exactly as much as m does over a large one.
    """

    title: ClassVar[str] = "Batch norm's running mean"
    note: ClassVar[int] = 2
    tricks: ClassVar[tuple[str, ...]] = ("gradient_accumulation",)
    formula: ClassVar[str] = "running_mean"
    name: Literal["running_mean"] = "running_mean"
    momentum: float = Field(
        0.1, ge=0.01, le=0.99, description="Weight of what is new, m, with the large batch."
    )
    batches: int = Field(8, ge=2, le=32, description="Small batches for a large one, k.")
    batch_size: int = Field(4, ge=1, le=64, description="Examples in a small batch.")
    jump: float = Field(
        3.0, ge=0, le=10, description="How far the true mean jumps halfway; the spread is 1."
    )

    def show(self, bench: Bench) -> Shown:
        numbers = self.numbers()
        wanted = means_of(numbers, self.momentum, self.batches * self.batch_size)
        followed = {
            rule: means_of(numbers, of(self.momentum, self.batches), self.batch_size)[
                # where a large batch ends, the two can be compared
                self.batches - 1 :: self.batches
            ]
            for rule, of in RULES.items()
        }
        errors = {rule: float((mine - wanted).abs().mean()) for rule, mine in followed.items()}
        return Shown(
            verdict=self.verdict(errors),
            figures=(self.curves(wanted, followed), self.table(errors)),
            remarks=(
                "After k batches the old value has the weight (1 - m')^k = 1 - m, as with the "
                "large batch. Inside a window later examples weigh a little more: that is what is "
                "left of the error.",
                "This mends what evaluation uses. In training each small batch is normalised by "
                "its own mean, and the gradient is not that of the large batch.",
            ),
            numbers={"errors": errors},
        )

    def numbers(self) -> torch.Tensor:
        """What the batch norms see, (N, 1), one number after the other."""
        count = WINDOWS * self.batches * self.batch_size
        noise = torch.randn(count, 1, generator=generator(0, "lesson"))
        noise[count // 2 :] += self.jump
        return noise

    def curves(self, wanted: torch.Tensor, followed: dict[str, torch.Tensor]) -> Chart:
        windows = list(range(1, WINDOWS + 1))
        lines = [Line("large batches, m", windows, wanted.tolist(), is_reference=True)]
        lines += [Line(f"small, {rule}", windows, mine.tolist()) for rule, mine in followed.items()]
        return Chart("The running mean", "optimizer steps", "running mean", lines)

    def table(self, errors: dict[str, float]) -> Table:
        rows = []
        for rule, of in RULES.items():
            momentum = of(self.momentum, self.batches)
            left = (1 - momentum) ** self.batches
            rows.append((rule, momentum, left, errors[rule]))
        columns = ("Rule", "Momentum", "Old value's weight after k", "Mean distance")
        title = f"Rules for the momentum; the large batch leaves {1 - self.momentum:.3g} of the old"
        return Table(title, columns, rows)

    def verdict(self, errors: dict[str, float]) -> str:
        untouched, divided, kept = errors.values()
        return (
            f"Over {WINDOWS} steps the running mean is {untouched:.3f} off with m untouched, "
            f"{divided:.3f} with m/k, and {kept:.3f} with 1-(1-m)^(1/k)."
        )


def means_of(numbers: torch.Tensor, momentum: float, batch_size: int) -> torch.Tensor:
    """The running mean of a real batch norm after each batch. numbers (N, 1) -> (batches,)."""
    # in double precision, and one feature: a batch of one has no spread to divide by
    norm = nn.BatchNorm1d(1, momentum=momentum).double()
    kept: list[torch.Tensor] = []
    for batch in torch.split(numbers.double(), batch_size):
        norm(doubled(batch))
        assert norm.running_mean is not None
        kept.append(norm.running_mean.clone())
    return torch.cat(kept)


def doubled(batch: torch.Tensor) -> torch.Tensor:
    """A batch of one twice: batch norm refuses a single value, and the mean is the same."""
    return batch if len(batch) > 1 else torch.cat([batch, batch])
