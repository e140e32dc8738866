"""Run: one training from start to end: build, apply, train, record, conclude."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Engine, Row

from trainer.anatomy import chosen_layers, model_anatomy
from trainer.batch import Batch
from trainer.build import build_setup, choose_device
from trainer.check import check
from trainer.checkpoint import drop_superseded, is_whole, load_checkpoint
from trainer.clock import Clock
from trainer.config import RunConfig
from trainer.environment import describe
from trainer.failpoints import failpoint
from trainer.failures import DiskShort
from trainer.loop import Progress, train
from trainer.memory import start_measuring
from trainer.overseer import Overseer
from trainer.part import Refused
from trainer.place import Place
from trainer.probe import Probe
from trainer.recorder import Recorder
from trainer.setup import Setup
from trainer.store.database import reading, writing
from trainer.store.reader import list_checkpoints
from trainer.store.writer import Writer
from trainer.tasks import TaskData
from trainer.tricks import in_order, name_of
from trainer.watch import RunWatch

log = logging.getLogger(__name__)


class End(StrEnum):
    """How a training ended. What goes wrong is an exception instead."""

    FINISHED = "finished"
    PAUSED = "paused"
    GIVEN_BACK = "given back"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Ending:
    """What a training came to."""

    end: End
    step: int
    stopped_early: bool
    result: Mapping[str, Any]
    evidence: Mapping[str, Mapping[str, Any]]


def train_run(config: RunConfig, place: Place, engine: Engine, overseer: Overseer) -> Ending:
    """Train from the start, or from the run's newest whole checkpoint.

    Raises Refused when the config cannot be carried out here, and whatever training raises.
    """
    for problem in check(config):
        raise Refused(f"{problem.field}: {problem.message}")
    device = choose_device(place.device or config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if config.threads:
        torch.set_num_threads(config.threads)
    failpoint("run.begin")
    log.info("reading %s", config.task.title)
    data = config.task.load(place.data)
    setup = build_setup(config, data, device, place.data.sources)
    tricks = in_order(config.tricks)
    for trick in tricks:
        trick.apply(setup)
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        setup.place()
        must_have_room(config, place, setup)
        start_measuring(device)
        watch = train_watched(config, place, engine, overseer, setup, data)
        evidence = {name_of(type(trick)): dict(trick.evidence(setup)) for trick in tricks}
    return Ending(End(watch.end), watch.step, watch.stopped_early, watch.result(), evidence)


def train_watched(
    config: RunConfig,
    place: Place,
    engine: Engine,
    overseer: Overseer,
    setup: Setup,
    data: TaskData,
) -> RunWatch:
    """Train a placed setup under a watch that records, probes, evaluates and obeys."""
    writer = Writer(place.run_id)
    with reading(engine) as connection:
        saved = list_checkpoints(connection, place.run_id)
    progress, notes = resumed(place.checkpoints, saved, setup)
    with writing(engine) as connection:
        overseer.begin(connection, opening_facts(config, setup, progress))
        # what a fresh run records at step 0 comes later, so nothing is kept for it
        writer.rewind(connection, progress.step or -1)
        kept = writer.keep_checkpoints(connection, config.recording.checkpoints_kept)
    # only now: the transaction has shown that the run is still this process's to change
    drop_superseded(place.checkpoints, kept, place.fence)
    stops = config.budget.stop_when_diverged
    recorder = Recorder(engine, writer, overseer, Clock(), stop_when_diverged=stops)
    try:
        watch = RunWatch(
            config=config,
            setup=setup,
            data=data,
            recorder=recorder,
            probe=probe_for(config, setup, data),
            place=place,
            notes=notes,
        )
        watch.before_training(progress)
        failpoint("run.train")
        if not watch.is_over:
            train(setup, progress, watch)
        watch.after_training(progress)
    finally:
        recorder.close()
    return watch


def must_have_room(config: RunConfig, place: Place, setup: Setup) -> None:
    """Before the first step: better to say so now than to stop in the middle of the night."""
    weights = sum(t.nbytes for t in setup.model.state_dict().values())
    # weights, and for each at most two values of the optimizer; one file more while it is written
    checkpoints = 3 * weights * (config.recording.checkpoints_kept + 1)
    looks = config.recording.layers and config.recording.layer_steps != "never"
    outputs = config.recording.layer_megabytes * 10**6 if looks else 0
    needed, free = checkpoints + outputs + place.reserve_bytes, place.free_bytes()
    if needed > free:
        raise DiskShort(
            f"this run may write {needed / 1e6:,.0f} MB, of which {checkpoints / 1e6:,.0f} MB are "
            f"checkpoints, and {free / 1e6:,.0f} MB are free in {place.folder.parent.parent}; free "
            "some, or lower recording.layer_megabytes"
        )


def opening_facts(config: RunConfig, setup: Setup, progress: Progress) -> dict[str, Any]:
    """What is known of a run once it is set up."""
    return {
        "device": str(setup.device),
        "environment": describe(setup.device),
        "total_steps": min(setup.total_steps, config.budget.steps or setup.total_steps),
        "steps_per_epoch": setup.steps_per_epoch,
        "step": progress.step,
    }


def resumed(
    folder: Path, saved: Sequence[Row[Any]], setup: Setup
) -> tuple[Progress, dict[str, Any]]:
    """Bring the setup to the newest whole checkpoint; a fresh start where there is none."""
    for checkpoint in saved:
        path = folder / checkpoint.file
        if is_whole(path, checkpoint.sha256):
            progress, notes = load_checkpoint(path, setup)
            log.info("resumed from the checkpoint at step %d", progress.step)
            return progress, notes
        log.warning("the checkpoint at step %d is damaged; trying the one before", checkpoint.step)
    setup.start_fresh()
    return Progress(), {}


def probe_for(config: RunConfig, setup: Setup, data: TaskData) -> Probe:
    """The probe of a run: its layers, and the first test examples on the device."""
    layers = chosen_layers(
        model_anatomy(config.model, config.task.facts()), config.recording.layers
    )
    chosen = slice(0, config.recording.layer_examples)
    examples = Batch(data.test.inputs[chosen], data.test.targets[chosen])
    return Probe(
        config.recording,
        [layer.path for layer in layers],
        setup.prepare(examples.to(setup.device)),
        setup.criterion.value,
    )
