"""Pace: how fast batches come, and how long training waits for them."""

import itertools
import multiprocessing
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import torch

from trainer.batch import Batch
from trainer.clock import Clock
from trainer.loop import Progress, train
from trainer.memory import private_bytes
from trainer.setup import Setup, StepOutcome

WARM_STEPS = 5
"""So many steps load, search and fill what later ones find ready."""


@dataclass(frozen=True)
class LoadingPace:
    """How batches come when nobody trains."""

    samples_per_second: float
    first_batch_seconds: float
    """From asking for the first batch until it is there: what loader processes take to start."""
    loader_memory_bytes: int | None
    """What loader processes share with nobody; None where the system does not tell."""


@dataclass(frozen=True)
class TrainingPace:
    """How training goes on with them."""

    samples_per_second: float
    waiting_share: float
    """Of a step's time, what the training process waits for its batches."""


def loading_pace(setup: Setup, seconds: float, ahead: int) -> LoadingPace:
    """Take batches for some seconds, and do nothing with them.

    `ahead` batches may lie ready before they are asked for; they are left out.
    """
    others = set(multiprocessing.active_children())
    began = time.perf_counter()
    with closing(epochs_without_end(setup)) as batches:
        next(batches)
        first = time.perf_counter() - began
        for _ in range(ahead):
            next(batches)
            if time.perf_counter() - began > first + seconds:
                break
        loaders = set(multiprocessing.active_children()) - others
        memory = private_bytes([loader.pid for loader in loaders if loader.pid])
        wait_for(setup.device)
        began, taken, examples = time.perf_counter(), 0.0, 0
        while taken < seconds:
            examples += len(next(batches).targets)
            taken = time.perf_counter() - began
        wait_for(setup.device)
        taken = time.perf_counter() - began
    return LoadingPace(examples / taken, first, memory)


def epochs_without_end(setup: Setup) -> Generator[Batch]:
    for epoch in itertools.count():
        yield from setup.batches(setup, epoch, 0)


def training_pace(setup: Setup, seconds: float) -> TrainingPace:
    """Train a placed setup for some seconds; records, evaluates and saves nothing."""
    watch = Stopwatch(setup, seconds)
    train(setup, Progress(), watch)
    wait_for(setup.device)
    taken = time.perf_counter() - watch.began
    return TrainingPace(watch.examples / taken, watch.waited / taken)


class Stopwatch:
    """A watch that lets a training go on for some seconds after its first steps."""

    def __init__(self, setup: Setup, seconds: float) -> None:
        self.setup, self.seconds, self.clock = setup, seconds, Clock()
        self.lap = self.clock.lap
        self.examples = 0
        self.began = self.waited_before = 0.0

    @property
    def waited(self) -> float:
        """Seconds that the steps after the first waited for their batches."""
        return self.clock.seconds["data"] - self.waited_before

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        if progress.step < WARM_STEPS:
            return False
        if progress.step == WARM_STEPS:
            wait_for(self.setup.device)
            self.began, self.waited_before = time.perf_counter(), self.clock.seconds["data"]
        else:
            self.examples += outcome.examples
        self.lap("recording")
        return self.clock.last - self.began >= self.seconds

    def after_epoch(self, progress: Progress) -> bool:
        self.lap("recording")
        return False


def wait_for(device: torch.device) -> None:
    """Let an accelerator finish what it was given; the host has run ahead."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
