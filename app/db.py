"""The lab's database: one engine per process, migrated before use."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.backup import back_up_before, backups_folder
from app.locks import Occupied, ProcessLock
from app.settings import ROOT, Settings
from trainer.part import Refused
from trainer.store.database import BUSY_SECONDS, altering, connect, reading, sqlite_file

MIGRATIONS = ROOT / "migrations"
WAIT_SECONDS = 0.1


def open_database(settings: Settings, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """An engine on the settings' database, brought to the newest schema.

    Refused when it cannot be opened, when a newer program has migrated it, or when a migration
    is due and no sound backup can be made before.
    """
    engine = connect(settings.database_url, busy_seconds)
    try:
        if current_revision(engine) == newest_revision():
            # as nearly always: opened in a moment, and without the lock of whoever writes
            return engine
        if is_to_be_backed_up(engine):
            with taking_turns(settings.folder / "locks" / "migration.lock"):
                # asked again: whoever was first has migrated meanwhile
                if is_to_be_backed_up(engine):
                    back_up_old(engine, backups_folder(settings))
                migrate(engine)
        else:
            migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Run the migrations that are missing, all in one transaction that fails as a whole.

    Refused where a newer program has migrated the database already.
    """
    with altering(engine) as connection:
        must_be_known(connection)
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


# -- before a migration ---------------------------------------------------------------------


def is_to_be_backed_up(engine: Engine) -> bool:
    """Whether the database is a file with an older schema, so that a migration will change it."""
    current = current_revision(engine)
    is_old = current in revisions() and current != newest_revision()
    return is_old and sqlite_file(engine.url) is not None


def back_up_old(engine: Engine, folder: Path) -> None:
    # not under the lock of the migration itself: whoever writes would wait as long as it takes
    file = sqlite_file(engine.url)
    assert file is not None
    newest = newest_revision()
    try:
        back_up_before(file, folder, newest)
    except Refused as reason:
        raise Refused(
            f"the database was not migrated from schema {current_revision(engine)} to {newest}, "
            f"as that needs a sound backup first: {reason}. Nothing was changed, and the "
            "Tricklab that made it works with it as before"
        ) from reason


@contextmanager
def taking_turns(path: Path) -> Iterator[None]:
    """One process at a time, for as long as it takes; freed when it dies."""
    lock = ProcessLock(path)
    while True:
        try:
            lock.__enter__()
            break
        except Occupied:
            time.sleep(WAIT_SECONDS)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


# -- schemas --------------------------------------------------------------------------------


def must_be_known(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in revisions():
        raise Refused(
            f"{connection.engine.url.render_as_string(hide_password=True)} has schema {current}, "
            "which this program does not know: a newer Tricklab made it. Run that one, or choose "
            "another folder or database"
        )


def current_revision(engine: Engine) -> str | None:
    """The schema the database has; None when it has none. Refused when it cannot be opened."""
    try:
        with reading(engine) as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        words = " ".join(str(error.orig).split())
        raise Refused(
            f"{engine.url.render_as_string(hide_password=True)} cannot be opened: {words}; "
            "`tricklab doctor` looks closer"
        ) from error


@cache
def revisions() -> Sequence[str]:
    """Every schema this program knows, the oldest first. Read once: each is a module to load."""
    known = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    return tuple(reversed(known))


def newest_revision() -> str:
    return revisions()[-1]


def is_migrated(connection: Connection) -> bool:
    """Whether the schema is the newest this program knows."""
    return MigrationContext.configure(connection).get_current_revision() == newest_revision()


def alembic_config(folder: Path = MIGRATIONS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config
