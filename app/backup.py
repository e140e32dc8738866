"""Backup: the lab's database in one verified file."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from app.settings import Settings
from app.verified_copy import verified_copy
from trainer.durable import sync_folder
from trainer.part import Refused
from trainer.store.database import sqlite_file

KEPT = 5
"""How many of the backups before migrations are kept; what a person asked for is never deleted."""
AUTOMATIC = re.compile(r"before-\w+-(\d{8}T\d{6}\.\d{6}Z)\.db")


@dataclass(frozen=True)
class Backup:
    """A backup as it lies on the disk."""

    path: Path
    bytes: int
    schema: str
    runs: int
    seconds: float


def make_backup(settings: Settings, target: Path | None = None) -> Backup:
    """Back the database up: to a new file, into a folder, or into the lab's own backups.

    Works while others write, on whatever schema the database has. Refused when the copy is not
    sound; then nothing is left behind.
    """
    file = database_file(settings)
    if not file.exists():
        raise Refused(f"there is no database {file}: nothing to back up")
    if target is None or target.is_dir():
        folder = backups_folder(settings) if target is None else target
        return back_up(file, folder, lambda schema: f"tricklab-{schema}-{utc_now()}.db")
    if not target.parent.is_dir():
        raise Refused(f"there is no folder {target.parent.absolute()}; make it first")
    if target.exists():
        raise Refused(f"{target} exists already; name a new file")
    return back_up(file, target.parent, lambda schema: target.name)


def back_up_before(file: Path, folder: Path, revision: str) -> Backup:
    """The backup that a migration to that revision does not start without."""
    backup = back_up(file, folder, lambda schema: f"before-{revision}-{utc_now()}.db")
    made = [path for path in folder.iterdir() if AUTOMATIC.fullmatch(path.name)]
    for old in sorted(made, key=time_in_name)[:-KEPT]:
        old.unlink()
    return backup


def back_up(file: Path, folder: Path, name: Callable[[str], str]) -> Backup:
    """A verified copy in the folder, under the name for its schema."""
    began = time.monotonic()
    with refusing(f"{file} was not backed up"):
        folder.mkdir(parents=True, exist_ok=True)
        with verified_copy(file, folder) as (copy, contents):
            path = copy.replace(folder / name(contents.schema))
            sync_folder(folder)
        size = path.stat().st_size
    return Backup(path, size, contents.schema, contents.runs, time.monotonic() - began)


def backups_folder(settings: Settings) -> Path:
    return settings.folder / "backups"


def database_file(settings: Settings) -> Path:
    """The file the database is in. Refused when it is in none, with the way out."""
    file = sqlite_file(settings.database_url)
    if file is not None:
        return file
    location = make_url(settings.database_url)
    if location.get_backend_name() != "postgresql":
        raise Refused("a database in memory has no backups; give it a file")
    plain = location.set(drivername="postgresql").render_as_string(hide_password=True)
    raise Refused(
        "Tricklab backs up and restores SQLite files only; PostgreSQL has its own programs: "
        f"`pg_dump --format=custom --file=tricklab.dump '{plain}'` makes a backup, and "
        "`pg_restore` puts it back"
    )


def utc_now() -> str:
    """Fit for a file's name, and in the order of time when sorted."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def time_in_name(path: Path) -> str:
    found = AUTOMATIC.fullmatch(path.name)
    assert found is not None
    return found[1]


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Tells as a refusal what stopped a piece of work on the database: disk, file, or rows."""
    try:
        yield
    except (OSError, sqlite3.Error, Refused) as error:
        strerror = error.strerror if isinstance(error, OSError) else None
        raise Refused(f"{what}: {strerror or error}") from error
