"""Learning-rate schedules: a multiplier of the learning rate for every optimizer step.

Pure functions of the step, so a resumed run has no schedule state to restore.
"""

import math
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from trainer.part import Part


class Schedule(Part):
    """How the learning rate goes over a run of a known number of steps."""

    def multiplier(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by at optimizer step `step` of 0 … steps - 1."""
        raise NotImplementedError


class WithWarmup(Schedule):
    """A schedule that may start with a straight rise."""

    warmup: float = Field(
        0.0, ge=0, le=0.9, description="Share of the steps in which the rate rises to its peak."
    )

    def multiplier(self, step: int, steps: int) -> float:
        rising = round(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        return self.after_warmup((step - rising) / max(1, steps - 1 - rising))

    def after_warmup(self, share: float) -> float:
        """The multiplier when this share, 0 to 1, of the steps after the warm-up is done."""
        raise NotImplementedError


class Constant(WithWarmup):
    """The same learning rate throughout."""

    title: ClassVar[str] = "Constant"
    name: Literal["constant"] = "constant"

    def after_warmup(self, share: float) -> float:
        return 1.0


class Cosine(WithWarmup):
    """Half a cosine from the peak down (Loshchilov and Hutter, SGDR, 2017; without restarts)."""

    title: ClassVar[str] = "Cosine"
    name: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0, le=1, description="What is left of the rate at the last step.")

    def after_warmup(self, share: float) -> float:
        return half_cosine(1.0, self.final, share)


class OneCycle(Schedule):
    """Up along half a cosine, then down along a longer one (Smith and Topin, 2018).

    Moves the learning rate only. torch's OneCycleLR also cycles the momentum by default, which
    would be a second change hidden in the first.
    """

    title: ClassVar[str] = "One-cycle"
    name: Literal["one_cycle"] = "one_cycle"
    warmup: float = Field(
        0.3, gt=0, lt=1, description="Share of the steps in which the rate rises to its peak."
    )
    initial: float = Field(
        0.04, gt=0, le=1, description="Share of the peak rate at the first step."
    )
    final: float = Field(4e-6, ge=0, le=1, description="Share of the peak rate at the last step.")

    def multiplier(self, step: int, steps: int) -> float:
        peak = self.warmup * (steps - 1)
        if step < peak:
            return half_cosine(self.initial, 1.0, step / peak)
        return half_cosine(1.0, self.final, (step - peak) / max(1e-9, steps - 1 - peak))


def half_cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine; `share` beyond 1 stays at the end."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


AnySchedule = Annotated[Constant | Cosine | OneCycle, Field(discriminator="name")]
SCHEDULES: tuple[type[Schedule], ...] = get_args(get_args(AnySchedule)[0])
