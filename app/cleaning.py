"""Cleaning: gives back what old checkpoints, archived runs and left-over files take."""

import math
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, func, select

from app import queue
from app.events import note_event, person
from app.left_overs import OVER, is_known, left_overs
from app.models import runs
from app.settings import Settings
from trainer.checkpoint import is_whole
from trainer.part import Refused
from trainer.place import checkpoint_folder
from trainer.store.database import reading, writing
from trainer.store.tables import checkpoints, layer_outputs
from trainer.store.writer import Writer


class Cleaning(StrEnum):
    """What can be cleaned. Nothing of a run that waits, trains or is paused is ever touched."""

    OLD_CHECKPOINTS = "old-checkpoints"
    ARCHIVED_RUNS = "archived-runs"
    LEFT_OVER_FILES = "left-over-files"

    @property
    def meaning(self) -> str:
        return MEANINGS[self]


MEANINGS = {
    Cleaning.OLD_CHECKPOINTS: "Checkpoints of runs that are over, all but the newest whole one of "
    "each: from that a run is retried or continued.",
    Cleaning.ARCHIVED_RUNS: "Archived runs, with everything they recorded.",
    Cleaning.LEFT_OVER_FILES: "Folders of runs that are not in the database, and checkpoints that "
    "no run points to.",
}


@dataclass(frozen=True)
class Freed:
    """What a clean-up gave back, or would give back."""

    what: Cleaning
    dry_run: bool
    runs: int
    files: int
    bytes: int
    """On the disk. A file that has another name elsewhere gives back nothing."""
    database_bytes: int
    """Inside the database, for what is recorded next: its file stays as large."""
    is_complete: bool
    """False where time was up before all was looked at."""


def clean(
    engine: Engine,
    settings: Settings,
    what: Cleaning,
    *,
    dry_run: bool = False,
    seconds: float = math.inf,
) -> Freed:
    """Clean up, and tell what that gave back; a dry run only counts what it would.

    Begins nothing new after so many seconds: asked again, it goes on. Whatever ends it in the
    middle leaves nothing half done but files without rows, which are left-over files then.
    """
    sweep = Sweep(engine, settings, dry_run=dry_run, seconds=seconds)
    work = {
        Cleaning.OLD_CHECKPOINTS: sweep.drop_old_checkpoints,
        Cleaning.ARCHIVED_RUNS: sweep.drop_archived_runs,
        Cleaning.LEFT_OVER_FILES: sweep.drop_left_overs,
    }
    is_complete = work[what]()
    return Freed(
        what=what,
        dry_run=dry_run,
        runs=sweep.runs,
        files=sweep.files,
        bytes=sweep.bytes,
        database_bytes=sweep.database_bytes,
        is_complete=is_complete,
    )


class Sweep:
    """One clean-up. Each run is a transaction of its own: nobody waits long for the lock.

    Rows go first and files after the commit, so that no row ever points to a missing file.
    """

    def __init__(
        self, engine: Engine, settings: Settings, *, dry_run: bool, seconds: float
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.dry_run = dry_run
        self.deadline = time.monotonic() + seconds
        self.runs = self.files = self.bytes = self.database_bytes = 0
        self.names_gone: Counter[tuple[int, int]] = Counter()

    def drop_old_checkpoints(self) -> bool:
        """All but the newest whole one of each run that is over; whether there was time for all."""
        with reading(self.engine) as connection:
            several = with_several_checkpoints(connection)
        for run_id, rows in several.items():
            if time.monotonic() > self.deadline:
                return False
            folder = checkpoint_folder(self.settings.run_folder(run_id))
            kept = next((r for r in rows if is_whole(folder / r.file, r.sha256)), None)
            # where none is whole the disk may be of another machine, or about to be mended
            if kept is not None:
                self.forget(run_id, folder, [r.file for r in rows if r.file != kept.file])
        return True

    def forget(self, run_id: int, folder: Path, files: Sequence[str]) -> None:
        if not self.dry_run:
            with writing(self.engine) as connection:
                if locked(connection, run_id) not in OVER:
                    # retried meanwhile
                    return
                Writer(run_id).forget_checkpoints(connection, files)
                text = f"all checkpoints but one deleted: {', '.join(files)}"
                note_event(connection, run_id, "cleaned up", person(), text)
        self.runs += 1
        self.drop_files(folder / file for file in files)

    def drop_archived_runs(self) -> bool:
        archived = select(runs.c.id).where(runs.c.archived_at.is_not(None), runs.c.status.in_(OVER))
        with reading(self.engine) as connection:
            numbers = connection.execute(archived.order_by(runs.c.id)).scalars().all()
        for run_id in numbers:
            if time.monotonic() > self.deadline:
                return False
            self.remove(run_id)
        return True

    def remove(self, run_id: int) -> None:
        own = layer_outputs.c.run_id == run_id
        size = select(func.coalesce(func.sum(func.length(layer_outputs.c.payload)), 0)).where(own)
        with reading(self.engine) if self.dry_run else writing(self.engine) as connection:
            if not self.dry_run and not is_put_away(connection, run_id):
                return
            self.database_bytes += int(connection.execute(size).scalar_one())
            if not self.dry_run:
                queue.remove(connection, run_id)
        self.runs += 1
        self.drop_folder(self.settings.run_folder(run_id))

    def drop_left_overs(self) -> bool:
        with reading(self.engine) as connection:
            found = left_overs(connection, self.settings)
            knows_any = bool(connection.execute(select(runs.c.id).limit(1)).all())
        if found.folders and not knows_any:
            raise Refused(
                f"the database knows no run, and {self.settings.folder / 'runs'} has folders of "
                f"{len(found.folders)}: it may be the wrong database. Delete them by hand if not"
            )
        for files in found.files.values():
            self.runs += 1
            self.drop_files(files)
        for run_id, folder in found.folders.items():
            if time.monotonic() > self.deadline:
                return False
            with reading(self.engine) as connection:
                # seconds may have passed: a database that was put back may know it now
                if is_known(connection, run_id):
                    continue
            self.runs += 1
            self.drop_folder(folder)
        return True

    # -- files ------------------------------------------------------------------------------

    def drop_folder(self, folder: Path) -> None:
        # all of them first: a folder that changes while it is listed may hide some
        inside = list(folder.rglob("*"))
        self.drop_files(path for path in inside if path.is_symlink() or not path.is_dir())
        if not self.dry_run:
            # its folders, now empty
            shutil.rmtree(folder, ignore_errors=True)

    def drop_files(self, files: Iterable[Path]) -> None:
        for file in files:
            try:
                self.drop(file)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Refused(
                    f"{file} cannot be deleted ({error.strerror}): see to its permissions, then "
                    f"clean up {Cleaning.LEFT_OVER_FILES}"
                ) from error

    def drop(self, file: Path) -> None:
        status = file.lstat()
        self.names_gone[status.st_dev, status.st_ino] += 1
        # a run that was continued shares its last checkpoint with the new one
        gone = self.names_gone[status.st_dev, status.st_ino] if self.dry_run else 1
        if not self.dry_run:
            file.unlink()
        self.files += 1
        if gone >= status.st_nlink:
            self.bytes += status.st_size


def with_several_checkpoints(connection: Connection) -> Mapping[int, Sequence[Row[Any]]]:
    """The checkpoints of every run that is over and has more than one, the newest first."""
    c = checkpoints.c
    several = select(c.run_id).group_by(c.run_id).having(func.count() > 1)
    over = select(runs.c.id).where(runs.c.status.in_(OVER), runs.c.id.in_(several))
    query: Select[Any] = select(c.run_id, c.step, c.file, c.sha256).where(c.run_id.in_(over))
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query.order_by(c.run_id, c.step.desc())).all():
        found[row.run_id].append(row)
    return found


def locked(connection: Connection, run_id: int) -> str | None:
    """The status of a run, which nobody changes before the transaction ends."""
    query = select(runs.c.status).where(runs.c.id == run_id).with_for_update()
    return connection.execute(query).scalar_one_or_none()


def is_put_away(connection: Connection, run_id: int) -> bool:
    """Whether a run is archived still, and over; stays so until the transaction ends."""
    if locked(connection, run_id) not in OVER:
        return False
    archived = select(runs.c.archived_at).where(runs.c.id == run_id)
    return connection.execute(archived).scalar_one() is not None
