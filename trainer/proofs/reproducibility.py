"""Reproducibility: the same training twice, each in a process of its own, compared bit by bit."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import numpy as np

from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.lifeline import die_with_parent
from trainer.part import Refused
from trainer.proofs.advice import advice
from trainer.proofs.trace import Mark, Place, Traced, Values, trace
from trainer.streams import start_generators_anew

LOOK_SECONDS = 0.2
Tell = Callable[[float, str], object]


class Apart(NamedTuple):
    """How far two tensors are apart."""

    values: int
    """How many values each has."""
    differing: int
    largest: float
    """Difference of two values."""
    relative: float
    """Norm of the difference over that of the first."""


@dataclass(frozen=True)
class Difference:
    """The first thing that two trainings computed differently."""

    place: Place
    mark: Mark
    apart: Apart | None = None
    """As two more trainings had it; None where they agreed there, or did not get there."""

    @property
    def sentence(self) -> str:
        words = {
            "start": f"the initial value of {self.mark.name}",
            "data": f"the {self.mark.name} of the batch, as loaded,",
            "changed": f"the {self.mark.name} of the batch, as the tricks change them,",
            "forward": f"the output of {self.mark.name}",
            "gradient": f"the gradient of {self.mark.name}",
            "weights": f"{self.mark.name} after the step",
            "loss": f"the {self.mark.name}",
        }
        step = self.place.step
        where = f"at step {step}" if step else "before the first step"
        return f"{words[self.mark.phase]} differs {where}"

    @property
    def size(self) -> str:
        """How large it is, as a sentence."""
        if self.apart is None:
            return "Two more trainings agreed there, so it comes now and then."
        values, differing, largest, relative = self.apart
        return (
            f"In two more trainings {differing:,} of {values:,} values differ there, by "
            f"{largest:.2g} at most and by {relative:.2g} of the whole."
        )

    def told(self) -> dict[str, Any]:
        """The same as JSON."""
        apart = self.apart or Apart(0, 0, 0.0, 0.0)
        return {
            "step": self.place.step,
            "phase": self.mark.phase,
            "name": self.mark.name,
            "size": self.size,
            **(apart._asdict() if self.apart else dict.fromkeys(Apart._fields)),
        }


@dataclass(frozen=True)
class Reproduction:
    """What came of training twice."""

    steps: int
    """How many steps were compared."""
    difference: Difference | None
    """None where every bit agreed."""
    losses: tuple[float, float]
    """Of the last step of each: how far a small difference has grown."""
    conditions: Mapping[str, Any]
    advice: str

    @property
    def sentence(self) -> str:
        if self.difference is None:
            return f"bit-identical over {self.steps} step{'' if self.steps == 1 else 's'}"
        return self.difference.sentence

    def told(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "identical": self.difference is None,
            "sentence": self.sentence,
            "steps": self.steps,
            "difference": self.difference.told() if self.difference else None,
            "losses": list(self.losses),
            "conditions": dict(self.conditions),
            "advice": self.advice,
        }


def reproduce(
    config: RunConfig,
    folders: DataFolders,
    device: str,
    steps: int,
    tell: Tell = lambda share, doing: None,
    context: BaseContext | None = None,
) -> Reproduction:
    """Train the first steps twice, one after the other, and compare every tensor of each.

    The processes are spawned unless `context` says otherwise: forked ones would share the seed of
    Python's hashes and the layout of their memory. Raises Refused with what a training said when
    it failed, and whatever `tell` raises: the training is then ended.
    """
    training = Training(config, folders, device, steps, context or fresh_processes())
    first, second = (
        training.traced(told_as(tell, number, steps)) for number in ("first", "second")
    )
    found = first_difference(first.steps, second.steps)
    if found is not None:
        tell(0.9, "how large the difference is")
        one, other = (
            training.traced(lambda step: tell(0.9, "how large the difference is"), found.place)
            for _ in range(2)
        )
        found = Difference(found.place, found.mark, apart(one.caught, other.caught))
    return Reproduction(
        steps=len(first.losses),
        difference=found,
        losses=(first.losses[-1], second.losses[-1]),
        conditions=first.conditions,
        advice=advice(config, found.mark, first.conditions) if found else "",
    )


def fresh_processes() -> BaseContext:
    return multiprocessing.get_context("spawn")


def told_as(tell: Tell, number: str, steps: int) -> Callable[[int], object]:
    before = 0.0 if number == "first" else 0.45
    return lambda step: tell(before + 0.45 * step / steps, f"{number} training, step {step}")


@dataclass(frozen=True)
class Training:
    """What is trained again and again, each time in a fresh process."""

    config: RunConfig
    folders: DataFolders
    device: str
    steps: int
    context: BaseContext

    def traced(self, told: Callable[[int], object], wanted: Place | None = None) -> Traced:
        """The trace of a training, or the values of one tensor in it."""
        reader, writer = self.context.Pipe(duplex=False)
        asked = (self.config, self.folders, self.device, self.steps, wanted)
        process = self.context.Process(  # type: ignore[attr-defined]
            target=send_trace, args=(writer, *asked)
        )
        process.start()
        writer.close()
        try:
            step = 0
            while True:
                # told while it is silent too: whoever listens may want no answer any more
                told(step)
                if wait([reader], LOOK_SECONDS):
                    said = received(reader)
                    if isinstance(said, Traced):
                        return said
                    step = said
        finally:
            process.kill()
            process.join()
            reader.close()


def received(reader: Connection) -> Any:
    """A step's number or the whole trace. Raises Refused with what went wrong."""
    try:
        said = reader.recv()
    except EOFError:
        raise Refused("the process that trained was ended before it was done; try again") from None
    if isinstance(said, str):
        raise Refused(said)
    return said


def send_trace(
    writer: Connection,
    config: RunConfig,
    folders: DataFolders,
    device: str,
    steps: int,
    wanted: Place | None,
) -> None:
    """The main function of a process that trains."""
    die_with_parent()
    start_generators_anew()
    try:
        writer.send(trace(config, folders, device, steps, writer.send, wanted))
    except Exception as error:
        writer.send(f"{type(error).__name__}: {error}")


def first_difference(
    first: Sequence[Sequence[Mark]], second: Sequence[Sequence[Mark]]
) -> Difference | None:
    """The earliest thing that two traces do not share, or None."""
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        for number, (mine, its) in enumerate(zip(one, other, strict=False)):
            if mine != its:
                return Difference(Place(step, number), mine)
        if len(one) != len(other):
            number = min(len(one), len(other))
            return Difference(Place(step, number), max(one, other, key=len)[number])
    return None


def apart(one: Values | None, other: Values | None) -> Apart | None:
    """How far two tensors are apart; None where they agree, or cannot be compared."""
    if one is None or other is None or one.shape != other.shape:
        return None
    # NaN is equal to itself here: it is the same bits
    differs = ~((one == other) | (np.isnan(one) & np.isnan(other)))
    if not differs.any():
        return None
    distance = np.abs(one - other)
    whole = float(np.linalg.norm(one))
    return Apart(
        values=one.size,
        differing=int(differs.sum()),
        largest=float(distance.max()),
        relative=float(np.linalg.norm(distance)) / whole if whole else float("inf"),
    )
