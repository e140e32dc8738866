"""LabSources: the checkpoints of this lab's runs, for runs that begin with what others learned."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, select

from app.finding import find, must_exist
from app.missing import RunMissing
from app.models import Status, runs
from app.offspring import last_whole_checkpoint, own_folder
from app.settings import Settings
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.part import Refused
from trainer.recipes import recipe
from trainer.sources import BY_RECIPE, references
from trainer.store.database import connect, reading


@dataclass(frozen=True)
class LabSources:
    """Runs of one lab by number, by name, or by the recipe they were trained from."""

    settings: Settings

    def checkpoint_of(self, reference: str) -> Path:
        # a connection of its own: this may be asked in a process that was forked since
        engine = connect(self.settings.database_url)
        try:
            with reading(engine) as connection:
                run = finished(connection, reference)
                last: str = last_whole_checkpoint(connection, self.settings, run.id).file
        finally:
            engine.dispose()
        return own_folder(self.settings, run.id) / last


def data_folders(settings: Settings) -> DataFolders:
    """Where data sets and the lab's other runs are found: what every training is given."""
    return replace(settings.data_folders, sources=LabSources(settings))


def finished(connection: Connection, reference: str) -> Row[Any]:
    """The finished run that a reference names. Raises Refused with the way out."""
    if reference.startswith(BY_RECIPE):
        return newest_of_recipe(connection, reference.removeprefix(BY_RECIPE))
    run = must_exist(connection, number_of(connection, reference))
    if run.status != Status.FINISHED:
        raise Refused(
            f"run {run.id} ({run.name}) is {run.status}, and only of a finished run can others "
            "take what it learned; wait until it has finished, or choose another"
        )
    return run


def newest_of_recipe(connection: Connection, name: str) -> Row[Any]:
    recipe(name)
    query = select(runs).where(runs.c.recipe == name, runs.c.status == Status.FINISHED)
    newest = query.order_by(runs.c.ended_at.desc(), runs.c.id.desc()).limit(1)
    run = connection.execute(newest).one_or_none()
    if run is None:
        raise Refused(f"no run of the recipe {name} has finished yet; train it first")
    return run


def number_of(connection: Connection, reference: str) -> int:
    try:
        return find(connection, reference)
    except RunMissing as missing:
        raise Refused(
            f"{missing}; name a run of this lab, or recipe:NAME for the newest of a recipe"
        ) from missing


def missing_sources(engine: Engine, config: RunConfig) -> Iterator[tuple[str, str]]:
    """Fields that name a run or recipe that does not exist, and why each is refused.

    Whether a run has finished is only asked when it is needed: it may be in the queue before.
    """
    named = [(field, text.strip()) for field, text in references(config) if text.strip()]
    if not named:
        return
    with reading(engine) as connection:
        for field, reference in named:
            try:
                must_be_there(connection, reference)
            except Refused as refusal:
                yield field, str(refusal)


def must_be_there(connection: Connection, reference: str) -> None:
    if reference.startswith(BY_RECIPE):
        recipe(reference.removeprefix(BY_RECIPE))
    else:
        number_of(connection, reference)
