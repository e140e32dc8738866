"""LeftOvers: files in the lab's folder that belong to no run any more."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, exists, select

from app.models import Status, runs
from app.settings import Settings
from trainer.checkpoint import NAME
from trainer.place import checkpoint_folder
from trainer.store.tables import checkpoints

OVER = frozenset(status for status in Status if status.is_over)
INSIDE = checkpoint_folder(Path()).name


@dataclass(frozen=True)
class LeftOvers:
    """What nobody will ask for again."""

    folders: Mapping[int, Path]
    """Of runs that the database does not have."""
    files: Mapping[int, Sequence[Path]]
    """Checkpoints of runs that are over which no row points to: half of them, or superseded."""


def left_overs(connection: Connection, settings: Settings) -> LeftOvers:
    """What is left over now. The connection must not have read anything before.

    The files are looked at first: what a run writes or who is added meanwhile is in the database
    by the time that is asked, and is not taken for a left-over.
    """
    on_disk = checkpoint_files(settings.folder / "runs")
    statuses = {row.id: row.status for row in connection.execute(select(runs.c.id, runs.c.status))}
    over = (runs.c.id == checkpoints.c.run_id) & runs.c.status.in_(OVER)
    pointed_to: dict[int, set[str]] = defaultdict(set)
    for row in connection.execute(select(checkpoints.c.run_id, checkpoints.c.file).where(over)):
        pointed_to[row.run_id].add(row.file)
    files = {
        run_id: [checkpoint_folder(settings.run_folder(run_id)) / name for name in sorted(unowned)]
        for run_id, names in on_disk.items()
        if statuses.get(run_id) in OVER and (unowned := names - pointed_to[run_id])
    }
    unknown = sorted(on_disk.keys() - statuses.keys())
    return LeftOvers({run_id: settings.run_folder(run_id) for run_id in unknown}, files)


def checkpoint_files(folder: Path) -> dict[int, set[str]]:
    """The folders of runs that are on the disk, by number, and the checkpoints in each."""
    return {
        int(run_folder.name): {
            # no Path for each: for ten thousand of them that takes longer than to look into them
            file.name
            for file in entries(f"{run_folder.path}/{INSIDE}")
            if NAME.match(file.name)
        }
        for run_folder in entries(folder)
        if run_folder.name.isdecimal() and run_folder.is_dir(follow_symlinks=False)
    }


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where there is none that can be looked into."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def is_known(connection: Connection, run_id: int) -> bool:
    return bool(connection.execute(select(exists().where(runs.c.id == run_id))).scalar())
