"""Lesson: a question whose answer teaches; small enough to be asked again and again."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from trainer.inquiry import Bench, Inquiry
from trainer.lessons.shown import Shown
from trainer.threads import threads


class Lesson(Inquiry):
    """A few seconds of computing, by the same code that trains, that show one thing.

    Its fields are what a person may play with. It is answered on the CPU, whatever the worker's
    device, unless it says otherwise.
    """

    note: ClassVar[int] = 0
    """Which of the eight founding notes it belongs to."""
    tricks: ClassVar[tuple[str, ...]] = ()
    """Names of the tricks on whose pages it stands."""
    formula: ClassVar[str] = ""
    """The name of the formula beside it, a template under templates/formulae; or nothing."""

    def show(self, bench: Bench) -> Shown:
        """What is seen. Raises Refused when these values show nothing, naming the way out."""
        raise NotImplementedError

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        # so small that a second thread costs more than it gains
        with threads(1), torch.random.fork_rng(devices=[]):
            return {**self.show(bench).told(), "on": self.where(bench)}

    def where(self, bench: Bench) -> str:
        """On what it was computed."""
        return f"one thread of the CPU by torch {torch.__version__}"
