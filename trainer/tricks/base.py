"""Trick: one named change to how training is done, with its claim and its evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, ClassVar

from trainer.part import Part
from trainer.setup import Setup


class Stage(IntEnum):
    """When a trick is applied: tricks act in the order of stages, then of the catalogue."""

    PROCESS = 1
    DATA = 2
    MODEL = 3
    GRADIENTS = 4
    OPTIMIZER = 5
    AFTER_STEP = 6

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()


class Exactness(StrEnum):
    """How close training with the trick stays to training without it: decides what is tested."""

    EXACT = "exact"
    CLOSE = "close"
    DIFFERENT = "different"

    @property
    def meaning(self) -> str:
        return EXACTNESS[self]


EXACTNESS = {
    Exactness.EXACT: "The same results, to the bit or to rounding in the last digits.",
    Exactness.CLOSE: "The same mathematics in another order of rounding.",
    Exactness.DIFFERENT: "Changes what is learned.",
}


@dataclass(frozen=True)
class Claim:
    """What a trick promises, in terms of something that is measured."""

    measure: str
    """What should change: "train_seconds", "peak_memory_bytes", "accuracy", "reproducibility"."""
    lower: bool
    """Whether a lower value is the better one."""
    source: str
    """Where the claim comes from."""

    @property
    def promise(self) -> str:
        """The same in words."""
        words = PROMISES.get((self.measure, self.lower))
        return words or f"{'lower' if self.lower else 'higher'} {self.measure.replace('_', ' ')}"


PROMISES = {
    ("train_seconds", True): "less training time",
    ("peak_memory_bytes", True): "less peak memory",
    ("accuracy", False): "higher accuracy",
    ("reproducibility", False): "results that can be repeated",
}


class Trick(Part):
    """A change to a setup. Its fields are its parameters, its docstring its documentation."""

    stage: ClassVar[Stage]
    exactness: ClassVar[Exactness]
    claim: ClassVar[Claim]
    owns: ClassVar[frozenset[str]] = frozenset()
    """Slots of the setup that only one trick may replace."""
    clashes: ClassVar[Mapping[str, str]] = {}
    """Names of tricks that cannot be on together with this one, and why."""
    helps: ClassVar[tuple[str, ...]] = ()
    """When it is worth switching on, a sentence each."""
    cost: ClassVar[str] = ""
    """What it takes in time, memory or care, in a few words."""
    traps: ClassVar[tuple[str, ...]] = ()
    """What goes wrong with it, a sentence each."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Where more is written about it, beside the source of its claim."""

    def apply(self, setup: Setup) -> None:
        """Edit the setup, once, before the first step.

        Raises Refused when there is nothing to change: a trick never silently does nothing.
        """
        raise NotImplementedError

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        """What the trick actually did, as JSON; asked for when the run ends."""
        raise NotImplementedError
