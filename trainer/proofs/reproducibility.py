"""Reproducibility: the same training twice, each in a process of its own, compared bit by bit."""

import math
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from trainer.build import choose_device
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.environment import describe
from trainer.lifeline import die_with_parent
from trainer.part import Refused
from trainer.proofs.trace import Mark, trace
from trainer.streams import start_generators_anew
from trainer.tricks import Deterministic, Seed, name_of

LOOK_SECONDS = 0.2
PHASES = {
    "start": "the initial value of {}",
    "data": "the {} of the batch",
    "forward": "the output of layer {}",
    "gradient": "the gradient of {}",
    "weights": "{} after the step",
    "loss": "the {}",
}


@dataclass(frozen=True)
class Difference:
    """The first thing that two trainings computed differently."""

    step: int
    """1 is the first; 0 is before it."""
    phase: str
    name: str
    relative: float
    """How far apart the norms of the two are; NaN where one is missing."""

    @property
    def sentence(self) -> str:
        where = f"at step {self.step}" if self.step else "before the first step"
        return f"{PHASES[self.phase].format(self.name)} differs {where}"


@dataclass(frozen=True)
class Reproduction:
    """What came of training twice."""

    steps: int
    """How many steps were compared."""
    difference: Difference | None
    """None where every bit agreed."""
    losses: tuple[float, float]
    """The norms of the last compared losses of the two."""
    conditions: dict[str, Any]
    advice: str

    @property
    def sentence(self) -> str:
        if self.difference is None:
            return f"bit-identical over {self.steps} steps"
        return self.difference.sentence

    def told(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "identical": self.difference is None,
            "sentence": self.sentence,
            "steps": self.steps,
            "difference": vars(self.difference) if self.difference else None,
            "losses": list(self.losses),
            "conditions": self.conditions,
            "advice": self.advice,
        }


def reproduce(
    config: RunConfig,
    folders: DataFolders,
    device: str,
    steps: int,
    tell: Callable[[float, str], object] = lambda share, doing: None,
    context: BaseContext | None = None,
) -> Reproduction:
    """Train the first steps twice, one after the other, and compare every tensor of each.

    `context` says how processes are started; fork is quick, and safe while this process has
    computed nothing with torch. Raises Refused with what a training said when it failed, and
    whatever `tell` raises: the training is then ended.
    """
    context = context or multiprocessing.get_context("spawn")
    first, second = (
        traced(config, folders, device, steps, told_as(tell, number, steps), context)
        for number in (1, 2)
    )
    found = first_difference(first, second)
    chosen = choose_device(device)
    return Reproduction(
        steps=len(first) - 1,
        difference=found,
        losses=(first[-1][-1].size, second[-1][-1].size),
        conditions=describe(chosen)
        | {"device": str(chosen), "tricks": [name_of(type(trick)) for trick in config.tricks]},
        advice=advice(config, found) if found else "",
    )


def told_as(
    tell: Callable[[float, str], object], number: int, steps: int
) -> Callable[[int], object]:
    share = (number - 1) / 2
    return lambda step: tell(share + step / steps / 2, f"training {number} of 2, step {step}")


def traced(
    config: RunConfig,
    folders: DataFolders,
    device: str,
    steps: int,
    told: Callable[[int], object],
    context: BaseContext,
) -> list[list[Mark]]:
    """The trace of a training in a fresh process."""
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(  # type: ignore[attr-defined]
        target=send_trace, args=(writer, config, folders, device, steps)
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
                if isinstance(said, list):
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
    writer: Connection, config: RunConfig, folders: DataFolders, device: str, steps: int
) -> None:
    """The main function of a process that trains."""
    die_with_parent()
    start_generators_anew()
    try:
        writer.send(trace(config, folders, device, steps, writer.send))
    except Exception as error:
        writer.send(f"{type(error).__name__}: {error}")


def first_difference(
    first: Sequence[Sequence[Mark]], second: Sequence[Sequence[Mark]]
) -> Difference | None:
    """The earliest thing that two traces do not share, or None."""
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        for mine, its in zip(one, other, strict=False):
            if mine.digest != its.digest or mine.name != its.name:
                larger = max(abs(mine.size), abs(its.size))
                apart = abs(mine.size - its.size) / larger if larger else math.nan
                return Difference(step, mine.phase, mine.name, apart)
        if len(one) != len(other):
            longer = max(one, other, key=len)
            missing = longer[min(len(one), len(other))]
            return Difference(step, missing.phase, missing.name, math.nan)
    return None


def advice(config: RunConfig, difference: Difference) -> str:
    """What helps against such a difference."""
    chosen = {type(trick) for trick in config.tricks}
    if difference.phase in ("start", "data"):
        return (
            "Initial weights and batches follow from the seed alone, unless code of your own draws "
            "from a generator that nobody seeds"
            + ("; switch on the seed trick." if Seed not in chosen else ".")
        )
    if Seed not in chosen:
        return (
            f"Switch on the seed trick: {difference.name} may draw random numbers (dropout does), "
            "and the process's generators start somewhere new in every run."
        )
    if Deterministic not in chosen:
        return (
            "Switch on the deterministic trick: an operation adds numbers up in whatever order "
            "they come."
        )
    return (
        "Seeds and deterministic algorithms are on, so this layer does something that torch does "
        "not know of: time, threads, or a generator of its own."
    )
