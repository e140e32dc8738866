"""SettingsPage: what takes how much room, clean-up, backups, and the settings in effect."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from alembic.runtime.migration import MigrationContext
from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import make_url

from app.backup import backups_folder, database_file, make_backup
from app.cleaning import Cleaning, clean
from app.connections import AnEngine, Reading, TheSettings
from app.db import newest_revision
from app.pages.templates import render
from app.run_query import RunQuery
from app.run_view import list_runs
from app.settings import Settings
from app.storage import usage
from trainer.part import Refused

router = APIRouter(prefix="/settings")

BACKUPS_SHOWN = 50
LARGEST_SHOWN = 10
NAMES_SHOWN = 20
CLEANING_SECONDS = 20.0
"""How long one clean-up goes on; what is left then takes another."""

Count = Annotated[int, Query(ge=0, lt=2**63)]


@dataclass(frozen=True)
class Slice:
    """One part of what the disk holds, as a piece of the bar."""

    title: str
    bytes: int
    start: float
    """Where its piece begins, in hundredths of the bar."""
    width: float
    colour: int


PARTS = {
    "database_bytes": "Database",
    "checkpoints": "Checkpoints",
    "datasets": "Data sets",
    "backups": "Backups",
    "left_overs": "Left-over files",
    "ballast_bytes": "Ballast",
}


@dataclass(frozen=True)
class InEffect:
    """One setting: its value here, and the environment variable that changes it."""

    name: str
    value: str
    variable: str
    description: str
    is_default: bool


@dataclass(frozen=True)
class BackupFile:
    """A file in the folder of backups."""

    name: str
    bytes: int
    made_at: float
    kind: str


@dataclass(frozen=True)
class Done:
    """What was just done, as the address of the page says it."""

    backup: str = ""
    cleaned: Cleaning | None = None
    freed: int = 0
    inside: int = 0
    is_complete: bool = True


async def done(
    backup: Annotated[str, Query(pattern=r"^[\w.-]{0,100}$")] = "",
    cleaned: Cleaning | None = None,
    freed: Count = 0,
    inside: Count = 0,
    is_complete: bool = True,
) -> Done:
    return Done(backup, cleaned, freed, inside, is_complete)


@router.get("")
def page(
    request: Request,
    connection: Reading,
    settings: TheSettings,
    done: Annotated[Done, Depends(done)],
) -> HTMLResponse:
    taken = usage(connection, settings, LARGEST_SHOWN)
    pieces = slices(taken)
    return render(
        request,
        "settings.html",
        storage=taken,
        slices=pieces,
        lab_bytes=sum(piece.bytes for piece in pieces),
        disk_bytes=shutil.disk_usage(settings.folder).total,
        cleanings=list(Cleaning),
        backups=backup_files(settings)[:BACKUPS_SHOWN],
        backups_folder=str(backups_folder(settings).absolute()),
        no_backup=why_no_backup(settings),
        in_effect=in_effect(settings),
        version=version("tricklab"),
        schema=MigrationContext.configure(connection).get_current_revision(),
        newest=newest_revision(),
        done=done,
    )


def slices(taken: Mapping[str, Any]) -> list[Slice]:
    """The pieces of the bar: the shares of what the lab takes."""
    sizes = {title: size_of(taken[key]) for key, title in PARTS.items()}
    whole, start = sum(sizes.values()), 0.0
    pieces = []
    for colour, (title, size) in enumerate(sizes.items()):
        width = 100 * size / whole if whole else 0.0
        pieces.append(Slice(title, size, start, width, colour))
        start += width
    return pieces


def size_of(part: Any) -> int:
    return int(part["bytes"] if isinstance(part, Mapping) else part)


# -- clean-up -------------------------------------------------------------------------------


@router.post("/clean")
def clean_up(
    request: Request,
    engine: AnEngine,
    connection: Reading,
    settings: TheSettings,
    what: Annotated[Cleaning, Form()],
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Clean up, after showing what would go."""
    freed = clean(engine, settings, what, dry_run=not confirmed, seconds=CLEANING_SECONDS)
    if confirmed:
        return back(
            cleaned=what,
            freed=freed.bytes,
            inside=freed.database_bytes,
            is_complete=freed.is_complete,
        )
    going = []
    if what == Cleaning.ARCHIVED_RUNS:
        going = list_runs(connection, RunQuery(archived=True, limit=NAMES_SHOWN))
    return render(request, "settings/clean.html", freed=freed, going=going)


# -- backups --------------------------------------------------------------------------------


@router.post("/backup")
def back_up(settings: TheSettings) -> RedirectResponse:
    """Back the database up now; the page then lists the file."""
    return back(backup=make_backup(settings).path.name)


def backup_files(settings: Settings) -> list[BackupFile]:
    """The backups, the newest first."""
    files = backups_folder(settings).glob("[!.]*.db")
    found = [backup_file(path) for path in files]
    return sorted(found, key=lambda file: file.made_at, reverse=True)


def backup_file(path: Path) -> BackupFile:
    status = path.stat()
    kind = path.name.partition("-")[0]
    return BackupFile(path.name, status.st_size, status.st_mtime, KINDS.get(kind, ""))


KINDS = {
    "tricklab": "made by hand",
    "before": "made before a migration",
    "replaced": "the database before a backup was restored",
}


def why_no_backup(settings: Settings) -> str:
    try:
        database_file(settings)
    except Refused as reason:
        return str(reason)
    return ""


# -- the settings in effect -----------------------------------------------------------------


def in_effect(settings: Settings) -> list[InEffect]:
    """Every setting. The password of a database stays where it is."""
    return [
        InEffect(
            name.replace("_", " "),
            shown(name, getattr(settings, name)),
            f"TRICKLAB_{name.upper()}",
            field.description or "",
            getattr(settings, name) == field.default,
        )
        for name, field in Settings.model_fields.items()
    ]


def shown(name: str, value: Any) -> str:
    if name == "database" and value:
        return make_url(value).render_as_string(hide_password=True)
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value or "")


def back(**done: Any) -> RedirectResponse:
    """To the page, which says what was done."""
    return RedirectResponse(f"/settings?{urlencode(done)}", 303)
