"""Storage: what a lab takes on its disk, which of its runs take most, and what is left."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, func, select

from app import disk
from app.backup import backups_folder
from app.left_overs import entries, left_overs
from app.models import runs
from app.settings import Settings
from trainer.place import checkpoint_folder
from trainer.store.database import sqlite_file
from trainer.store.tables import checkpoints, layer_outputs, log_chunks

MOST_FILES = 50_000
"""Files that are counted at most in one place; beyond that it only says that there are more."""
MOST_RUNS = 20


@dataclass(frozen=True)
class Taken:
    """How many there are, and how much they take."""

    count: int
    bytes: int
    is_complete: bool = True
    """Whether all were counted."""


def usage(connection: Connection, settings: Settings, largest: int = MOST_RUNS) -> dict[str, Any]:
    """What everything takes, in bytes, and the `largest` runs by checkpoints and layer outputs.

    Looks at each folder of a run once, and at each layer output's length: about a second for ten
    thousand runs. Layer outputs and logs are inside the database, so they are part of its bytes.
    The connection must not have read anything before.
    """
    # first, as it is to look at the disk before it looks at the database
    unowned = left_overs(connection, settings)
    outputs = layer_outputs_by_run(connection)
    saved = checkpoints_by_run(connection)
    archived = select(runs.c.id).where(runs.c.archived_at.is_not(None))
    put_away = connection.execute(archived).scalars().all()
    return {
        "folder": str(settings.folder.absolute()),
        "free_bytes": disk.free_bytes(settings),
        "reserve_bytes": settings.reserve_megabytes * 10**6,
        "trouble": disk.trouble(settings),
        "database_bytes": database_bytes(connection, settings),
        "ballast_bytes": bytes_of(disk.Ballast(settings).path),
        "checkpoints": asdict(without_shared(connection, settings, in_all(saved.values()))),
        "layer_outputs": asdict(in_all(outputs.values())),
        "logs": asdict(logs(connection)),
        "datasets": asdict(files_in([settings.data_folders.data])),
        "backups": asdict(files_in([backups_folder(settings)])),
        "left_overs": asdict(
            files_in([*unowned.folders.values(), *(f for fs in unowned.files.values() for f in fs)])
        ),
        "archived": {
            "count": len(put_away),
            "bytes": sum(kept[n].bytes for n in put_away for kept in (saved, outputs)),
            "is_complete": True,
        },
        "largest": largest_runs(connection, saved, outputs, largest),
    }


# -- in the database ------------------------------------------------------------------------


def layer_outputs_by_run(connection: Connection) -> Mapping[int, Taken]:
    c = layer_outputs.c
    # of a BLOB that takes no look at its content, only at its row's header
    query: Select[Any] = select(c.run_id, func.count(), func.sum(func.length(c.payload)))
    return by_run(connection.execute(query.group_by(c.run_id)).all())


def checkpoints_by_run(connection: Connection) -> Mapping[int, Taken]:
    c = checkpoints.c
    query: Select[Any] = select(c.run_id, func.count(), func.sum(c.bytes))
    return by_run(connection.execute(query.group_by(c.run_id)).all())


def by_run(rows: Sequence[Any]) -> Mapping[int, Taken]:
    nothing = Taken(0, 0)
    return defaultdict(lambda: nothing, {run: Taken(count, int(size)) for run, count, size in rows})


def in_all(parts: Iterable[Taken]) -> Taken:
    listed = list(parts)
    return Taken(sum(part.count for part in listed), sum(part.bytes for part in listed))


def logs(connection: Connection) -> Taken:
    """How many runs have a log, and their characters: as good as bytes, for what programs print."""
    c = log_chunks.c
    columns = (func.count(c.run_id.distinct()), func.coalesce(func.sum(func.length(c.text)), 0))
    count, size = connection.execute(select(*columns)).one()
    return Taken(count, int(size))


def database_bytes(connection: Connection, settings: Settings) -> int:
    """With the write-ahead log beside it; on a server what the server says."""
    file = sqlite_file(settings.database_url)
    if file is not None:
        return sum(bytes_of(file.with_name(file.name + end)) for end in ("", "-wal", "-shm"))
    if connection.dialect.name != "postgresql":
        return 0
    name = func.current_database()
    return int(connection.execute(select(func.pg_database_size(name))).scalar_one())


def largest_runs(
    connection: Connection,
    saved: Mapping[int, Taken],
    outputs: Mapping[int, Taken],
    most: int,
) -> list[dict[str, Any]]:
    """The runs that take most, the largest first. A checkpoint that two share counts for both."""
    sizes = {n: saved[n].bytes + outputs[n].bytes for n in saved.keys() | outputs.keys()}
    chosen = heapq.nlargest(most, sizes, key=lambda run_id: (sizes[run_id], run_id))
    columns = (runs.c.id, runs.c.name, runs.c.status, runs.c.archived_at)
    query = select(*columns).where(runs.c.id.in_(chosen))
    rows = {row.id: row._mapping for row in connection.execute(query)}
    return [
        {
            **rows[run_id],
            "checkpoint_bytes": saved[run_id].bytes,
            "layer_output_bytes": outputs[run_id].bytes,
            "bytes": sizes[run_id],
        }
        for run_id in chosen
    ]


# -- on the disk ----------------------------------------------------------------------------


def without_shared(connection: Connection, settings: Settings, all_rows: Taken) -> Taken:
    """Checkpoints, each file once: one that a run was continued from has two names and two rows."""
    c = checkpoints.c
    alike = select(c.sha256).group_by(c.sha256).having(func.count() > 1)
    query = select(c.run_id, c.file, c.bytes).where(c.sha256.in_(alike))
    seen: set[tuple[int, int]] = set()
    counted_twice: list[int] = []
    for row in connection.execute(query).all():
        path = checkpoint_folder(settings.run_folder(row.run_id)) / row.file
        try:
            status = path.stat()
        except OSError:
            # on another machine
            continue
        place = (status.st_dev, status.st_ino)
        if place in seen:
            counted_twice.append(row.bytes)
        seen.add(place)
    return Taken(all_rows.count - len(counted_twice), all_rows.bytes - sum(counted_twice))


def files_in(paths: Iterable[Path], most: int = MOST_FILES) -> Taken:
    """The files at and under these paths. Stops looking after `most`."""
    count = size = 0
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path.is_dir() and not path.is_symlink():
            waiting += [Path(entry.path) for entry in entries(path)]
            continue
        if count == most:
            return Taken(count, size, is_complete=False)
        with suppress(FileNotFoundError):
            size += path.lstat().st_size
            count += 1
    return Taken(count, size)


def bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
