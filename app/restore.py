"""Restore: a backup put in place of the database, which is kept."""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.backup import backups_folder, database_file, refusing, utc_now
from app.db import revisions
from app.locks import is_held
from app.settings import Settings
from app.verified_copy import (
    BESIDE,
    Contents,
    copy_pages,
    must_have_room,
    size_with_log,
    sync_file,
    unfinished,
    verified_copy,
)
from trainer.durable import sync_folder
from trainer.part import Refused
from trainer.store.database import (
    alone,
    alone_with_wreck,
    given_numbers,
    keep_numbers,
    rows_per_table,
)

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
UNREADABLE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


@dataclass(frozen=True)
class Restored:
    """What is the database now, and where that is which it was before."""

    path: Path
    schema: str
    runs: int
    replaced: Path | None


def restore(settings: Settings, backup: Path) -> Restored:
    """Make the database what the backup holds, in one transaction of the database itself.

    Not by exchanging files: a process that opens the database at this moment would go on with
    the old one. Refused while any process has it open, and when the backup is damaged.
    """
    file = database_file(settings)
    if not backup.is_file():
        raise Refused(f"there is no file {backup}")
    if file.exists() and backup.samefile(file):
        raise Refused(f"{backup} is the database itself; name a backup of it")
    must_be_idle(settings)
    with refusing(f"{backup} was not restored"):
        file.parent.mkdir(parents=True, exist_ok=True)
        backups_folder(settings).mkdir(parents=True, exist_ok=True)
        must_have_room(file.parent, room_for(backup, file))
        with verified_copy(backup, file.parent) as (copy, contents):
            must_be_known(contents)
            replaced = replace(settings, file, copy)
        sync_folder(file.parent)
    return Restored(file, contents.schema, contents.runs, replaced)


def replace(settings: Settings, file: Path, copy: Path) -> Path | None:
    """Put the copy in place of the database; where the database is kept, if there was one."""
    folder = backups_folder(settings)
    aside = set_aside(file, folder) if is_wreck(file) else None
    with owned(file) as live:
        kept = keep(live, file, folder)
        with closing(sqlite3.connect(copy, isolation_level=None)) as source:
            keep_numbers(source, numbers(settings, live))
            copy_pages(source, live, "restore.copying")
    return kept or aside


def must_be_idle(settings: Settings) -> None:
    for lock in sorted((settings.folder / "locks").glob("*.lock")):
        if is_held(lock):
            raise Refused(
                f"a process works in {settings.folder} (it holds {lock.name}); end the server "
                "and its workers first"
            )


def must_be_known(contents: Contents) -> None:
    if contents.schema not in revisions():
        raise Refused(
            f"it has schema {contents.schema}, which this program does not know: a newer "
            "Tricklab made it; restore it with that one"
        )


def room_for(backup: Path, file: Path) -> int:
    """Bytes for the copy and the new database, the old one that is kept, and its journal."""
    return 2 * size_with_log(backup) + 2 * (size_with_log(file) if file.exists() else 0)


@contextmanager
def owned(file: Path) -> Iterator[sqlite3.Connection]:
    """The only connection to the database. Refused while any process has it open."""
    try:
        with alone(file) as connection:
            yield connection
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in LOCKED:
            raise
        raise in_use(file) from error


def in_use(file: Path) -> Refused:
    return Refused(f"another process has {file} open; end the server and its workers first")


# -- what was there before ------------------------------------------------------------------


def is_wreck(file: Path) -> bool:
    """Whether SQLite no longer takes the file for a database."""
    if not file.exists():
        return False
    try:
        with owned(file) as connection:
            rows_per_table(connection)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in UNREADABLE:
            return True
        raise
    return False


def set_aside(file: Path, folder: Path) -> Path:
    """Move an unreadable database and its log to the backups, for whoever can still use them."""
    target = folder / f"replaced-unreadable-{utc_now()}.db"
    try:
        with alone_with_wreck(file):
            # the file last: a log that stayed behind would be taken for the new database's
            for ending in (*BESIDE, ""):
                part = file.with_name(file.name + ending)
                if part.exists():
                    shutil.move(part, target.with_name(target.name + ending))
    except BlockingIOError as error:
        raise in_use(file) from error
    return target


def keep(live: sqlite3.Connection, file: Path, folder: Path) -> Path | None:
    """A copy of the database as it is, be it damaged; None when it is empty."""
    if not rows_per_table(live):
        return None
    with unfinished(folder, like=file) as copy:
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            copy_pages(live, target, "restore.keeping")
        sync_file(copy)
        kept = copy.replace(folder / f"replaced-{utc_now()}.db")
        sync_folder(folder)
    return kept


def numbers(settings: Settings, live: sqlite3.Connection) -> Mapping[str, int]:
    """Numbers that were given since the backup. Given again, an old address would show another
    run, and a new run would find the files of an old one."""
    given = given_numbers(live) if "runs" in rows_per_table(live) else {}
    folders = (settings.folder / "runs").glob("*")
    on_disk = [int(path.name) for path in folders if path.name.isdecimal()]
    return {**given, "runs": max([given.get("runs", 0), *on_disk])}
