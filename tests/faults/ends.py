"""Ends: G9 and G10: cancelling in every state, and a name for everything that goes wrong."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from lab import tiny_config

from app.models import Asked, Status
from faults.promise import Shown
from faults.world import Hurt, World, eventually
from trainer.config import RunConfig
from trainer.failures import Cause

USUAL_SECONDS, HUNG_SECONDS = 3.0, 15.0
SLACK = 2.0
"""Beside the promise: what a busy machine may take to look."""


def endless(**changes: Any) -> RunConfig:
    settings = {"budget": {"epochs": 100_000}, "recording": {"layer_steps": "never"}}
    return tiny_config(**{**settings, **changes})


def cancel_ends_a_run(folder: Path, seed: int, times: int) -> Shown:
    """Cancel runs that wait, start, train, are paused, and hang in their loader."""
    shown = Shown("G9", "")
    started = time.monotonic()
    world = World.at(folder, seed)
    usual: list[float] = []
    hung: list[float] = []
    with world.working() as hurt:
        for _ in range(times):
            cancelled(world, shown, hurt, usual, "training", endless(loader={"workers": 1}))
            cancelled(world, shown, hurt, usual, "starting", endless())
            cancelled(world, shown, hurt, usual, "paused", endless())
            cancelled(world, shown, hurt, usual, "queued", endless())
            world.lay("loader.start", "hang")
            cancelled(world, shown, hurt, hung, "hung", endless(loader={"workers": 2}))
            world.clear()
        following = world.add(tiny_config())
        shown.must(world.wait_for(following, *Ended) == Status.FINISHED, "the next did not run")
    slowest, slowest_hung = max(usual), max(hung)
    shown.must(slowest <= USUAL_SECONDS + SLACK, f"a cancel took {slowest:.1f} s")
    shown.must(slowest_hung <= HUNG_SECONDS, f"a hung run took {slowest_hung:.1f} s")
    shown.what = (
        f"{len(usual)} cancels in every state, the slowest took {slowest:.1f} s; {len(hung)} of "
        f"hung loaders, the slowest {slowest_hung:.1f} s; no process was left"
    )
    shown.seconds = time.monotonic() - started
    world.lab.engine.dispose()
    return shown


Ended = (Status.FINISHED, Status.FAILED, Status.CANCELLED)


def cancelled(
    world: World, shown: Shown, hurt: Hurt, took: list[float], state: str, config: RunConfig
) -> None:
    """Bring a run into a state, cancel it, and see how long it takes and what is left."""
    blocker = world.add(endless()) if state == "queued" else None
    if blocker:
        world.wait_for_step(blocker, 1)
    run_id = world.add(config)
    processes: list[psutil.Process] = []
    if state in ("training", "paused"):
        world.wait_for_step(run_id, 3)
    if state == "paused":
        world.ask(run_id, Asked.PAUSE)
        world.wait_for(run_id, Status.PAUSED)
    if state in ("starting", "hung"):
        world.wait_for(run_id, Status.RUNNING)
    if state == "hung":
        eventually(lambda: world.has_struck("loader.start"), "the loader hangs")
    for trainer in hurt.trainers() if blocker is None else ():
        processes.append(trainer)
        with contextlib.suppress(psutil.NoSuchProcess):
            processes += trainer.children(recursive=True)
    asked_at = time.monotonic()
    world.ask(run_id, Asked.CANCEL)
    status = world.wait_for(run_id, *Ended)
    shown.must(status == Status.CANCELLED, f"a {state} run became {status}")
    _, left = psutil.wait_procs(processes, timeout=HUNG_SECONDS)
    took.append(time.monotonic() - asked_at)
    shown.must(not left, f"{len(left)} processes of a {state} run were left")
    if blocker:
        world.ask(blocker, Asked.CANCEL)
        world.wait_for(blocker, Status.CANCELLED)


DIVERGING = {
    "model": {"name": "mlp"},
    "loss": {"name": "mse"},
    "optimizer": {"learning_rate": 1000},
    "schedule": {"name": "constant"},
    "budget": {"epochs": 50},
}
HANG_SECONDS = 2.0


def everything_that_goes_wrong_is_named(folder: Path, seed: int, times: int) -> Shown:
    """Inject each failure: it ends by its name with the right words, and the next run starts."""
    shown = Shown("G10", "")
    started = time.monotonic()
    world = World.at(folder, seed, hang_seconds=HANG_SECONDS, max_attempts=2)
    faults: Mapping[Cause, tuple[str, str, RunConfig, str]] = {
        Cause.DIVERGED: ("", "", tiny_config(**DIVERGING), "the training loss became"),
        Cause.OUT_OF_MEMORY: ("run.train", "no-memory", tiny_config(), "out of memory"),
        Cause.EXCEPTION: ("run.train", "error", tiny_config(), "RuntimeError: an error that a"),
        Cause.HUNG: ("loader.start", "hang", endless(loader={"workers": 1}), "hung: nothing moved"),
        Cause.CRASHED: ("run.train", "crash", tiny_config(), "its process was killed by SIGABRT"),
        Cause.REFUSED: ("", "", impossible(), "tricks.0.steps: an epoch has"),
        Cause.DISK_FULL: ("checkpoint.written", "no-space", tiny_config(), "the disk is full"),
    }
    with world.working():
        for _ in range(times):
            for cause, (point, action, config, words) in faults.items():
                if point:
                    world.lay(point, action)
                run_id = world.add(config)
                world.wait_for(run_id, *Ended, Status.PAUSED)
                run = world.lab.run(run_id)
                shown.must(run.cause == cause, f"{cause} ended as {run.cause}: {run.reason}")
                shown.must(run.reason.startswith(words), f"{cause} says {run.reason!r}")
                shown.must(run.attempt == 1, f"{cause} was tried {run.attempt} times")
                world.clear()
                following = world.add(tiny_config())
                status = world.wait_for(following, *Ended)
                shown.must(status == Status.FINISHED, f"after {cause} the next run {status}")
    shown.what = f"{len(faults)} failures x {times}, each by its name; the next run started"
    shown.seconds = time.monotonic() - started
    world.lab.engine.dispose()
    return shown


def impossible() -> RunConfig:
    return tiny_config(tricks=({"name": "gradient_accumulation", "steps": 1000},))
