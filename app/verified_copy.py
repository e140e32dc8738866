"""A verified copy of a database file: taken while others write, sound, and on the disk."""

import os
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainer.failpoints import failpoint
from trainer.part import Refused
from trainer.store.database import damage, rows_per_table, snapshot, without_log

PAGES_AT_ONCE = 256
UNFINISHED = ".tricklab-"
ABANDONED_SECONDS = 3600
BESIDE = ("-journal", "-wal", "-shm")
"""Endings of the files that SQLite keeps beside a database."""
TO_SPARE = 16_000_000
"""Bytes that are to stay free on a disk that a copy is written to."""


@dataclass(frozen=True)
class Contents:
    """What a database holds, as far as a copy of it must hold the same."""

    schema: str
    rows: Mapping[str, int]

    @property
    def runs(self) -> int:
        return self.rows.get("runs", 0)


@contextmanager
def verified_copy(file: Path, folder: Path) -> Iterator[tuple[Path, Contents]]:
    """A copy under a hidden name in the folder; gone after the block unless it was renamed.

    Refused when the copy, and so the database, is damaged.
    """
    must_have_room(folder, size_with_log(file))
    with unfinished(folder, like=file) as copy:
        with snapshot(file) as source:
            contents = contents_of(source, file)
            with closing(sqlite3.connect(copy, isolation_level=None)) as target:
                copy_pages(source, target, "backup.copying")
                # a backup is one file, which can be read where nothing can be written
                without_log(target)
        must_be_sound(copy, contents)
        sync_file(copy)
        failpoint("backup.written")
        yield copy, contents


@contextmanager
def unfinished(folder: Path, *, like: Path) -> Iterator[Path]:
    """An empty file under a hidden name, as private as the other; deleted unless renamed."""
    drop_leftovers(folder)
    path = folder / f"{UNFINISHED}{os.getpid()}-{secrets.token_hex(4)}.part"
    mode = stat.S_IMODE(like.stat().st_mode)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, mode))
    try:
        yield path
    finally:
        remove_with_logs(path)


def drop_leftovers(folder: Path) -> None:
    """Delete the unfinished files of processes that were killed."""
    for part in folder.glob(f"{UNFINISHED}*.part"):
        with suppress(OSError):
            process = int(part.name.removeprefix(UNFINISHED).partition("-")[0])
            # by its age too: a process in another container has a number that means nothing here
            is_old = time.time() - part.stat().st_mtime > ABANDONED_SECONDS
            if is_old and not psutil.pid_exists(process):
                remove_with_logs(part)


def remove_with_logs(path: Path) -> None:
    for ending in ("", *BESIDE):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def copy_pages(source: sqlite3.Connection, target: sqlite3.Connection, point: str) -> None:
    """Copy a whole database in one transaction of the target, some pages at a time.

    The source is to be in a transaction, or written by nobody: each write of another connection
    would start the copy anew.
    """
    source.backup(target, pages=PAGES_AT_ONCE, progress=lambda *left: failpoint(point))


def contents_of(connection: sqlite3.Connection, file: Path) -> Contents:
    """Refused for what is no lab's database."""
    rows = rows_per_table(connection)
    schema = None
    if "alembic_version" in rows:
        schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if schema is None:
        raise Refused(f"{file} holds no lab: it has no schema")
    return Contents(str(schema[0]), rows)


def must_be_sound(copy: Path, contents: Contents) -> None:
    with snapshot(copy) as connection:
        found = damage(connection)
        if not found and contents_of(connection, copy) != contents:
            found = ["the copy holds other rows than the original"]
    if found:
        raise Refused(f"it is damaged: {'; '.join(found[:3])}")


def size_with_log(file: Path) -> int:
    log = file.with_name(f"{file.name}-wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)


def must_have_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + TO_SPARE:
        raise Refused(
            f"it takes {in_megabytes(needed)} in {folder}, where only {in_megabytes(free)} are "
            "free; make room first"
        )


def in_megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
