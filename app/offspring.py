"""Offspring: new runs made from a run: a clone, a lighter one, one that trains on."""

import os
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from app import queue
from app.finding import must_exist
from app.models import Status
from app.settings import Settings
from trainer.check import check
from trainer.checkpoint import is_whole
from trainer.config import RunConfig
from trainer.lighter import lighter
from trainer.part import Refused
from trainer.place import checkpoint_folder
from trainer.store.reader import list_checkpoints
from trainer.store.writer import Writer


def clone(connection: Connection, run_id: int) -> int:
    """Queue a new run with the config of another; its number."""
    run = must_exist(connection, run_id)
    return add_child(connection, run, config_of(run), f"cloned from run {run_id}")


def retry_lighter(connection: Connection, run_id: int) -> int:
    """Queue a new run like this one with half the batch and twice the accumulation; its number."""
    run = must_exist(connection, run_id)
    config = lighter(config_of(run))
    for problem in check(config):
        raise Refused(f"with half the batch {problem.field}: {problem.message}")
    return add_child(connection, run, config, f"run {run_id} with half the batch")


def continue_run(connection: Connection, settings: Settings, run_id: int, epochs: int) -> int:
    """Queue a new run that trains a finished one on for more epochs; its number.

    It begins with the curves and the last checkpoint of the finished run, which stays as it is.
    Limits of steps and seconds are left out, as the finished run may have ended by them. A
    schedule is stretched over the new number of epochs.
    """
    run = must_exist(connection, run_id)
    if run.status != Status.FINISHED:
        raise Refused(f"run {run_id} is {run.status}; only a finished run can be continued")
    config = config_of(run)
    budget = {"epochs": config.budget.epochs + epochs, "steps": None, "seconds": None}
    longer = config.model_copy(update={"budget": config.budget.model_copy(update=budget)})
    checked = RunConfig.model_validate(longer.model_dump())
    last = last_whole_checkpoint(connection, settings, run_id)
    child = add_child(connection, run, checked, f"continues run {run_id} from step {last.step}")
    Writer(child).take_over(connection, run_id, last.step)
    # before the transaction ends: a row never points to a file that is not there
    link(own_folder(settings, run_id) / last.file, own_folder(settings, child) / last.file)
    return child


def last_whole_checkpoint(connection: Connection, settings: Settings, run_id: int) -> Row[Any]:
    folder = own_folder(settings, run_id)
    for row in list_checkpoints(connection, run_id):
        if is_whole(folder / row.file, row.sha256):
            return row
    raise Refused(
        f"run {run_id} has no whole checkpoint on this machine to go on from; clone it to train "
        "from the start"
    )


def add_child(connection: Connection, run: Row[Any], config: RunConfig, why: str) -> int:
    return queue.add(
        connection,
        config,
        recipe=run.recipe,
        priority=run.priority,
        parent_id=run.id,
        why=why,
    )


def config_of(run: Row[Any]) -> RunConfig:
    return RunConfig.model_validate(run.config)


def own_folder(settings: Settings, run_id: int) -> Path:
    return checkpoint_folder(settings.run_folder(run_id))


def link(file: Path, to: Path) -> None:
    """The same bytes under a second name; checkpoints are never written to again."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to)
    except OSError:
        # a file system without links
        shutil.copyfile(file, to)
