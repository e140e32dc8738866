"""The lab's database, looked at without touching it: sound, in which mode, with which schema."""

import sqlite3
from collections.abc import Iterator

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from app.db import newest_revision, revisions
from app.doctor.finding import Finding, Verdict, bad, ok, warning
from app.doctor.work import examine_work
from app.settings import Settings
from trainer.store.database import damage, driver, journal_mode, look, reading, sqlite_file

RESTORE = "end everything that uses it; `tricklab restore` puts a backup in its place"


def examine_database(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    is_file = url.get_backend_name() == "sqlite"
    if is_file:
        file = sqlite_file(url)
        if file is None:
            yield warning("database", f"{shown} is in memory", "name a file: it would be lost")
            return
        if not file.exists():
            yield ok("database", f"{file} is made by the first start")
            return
    engine = look(settings.database_url)
    try:
        with reading(engine) as connection:
            # asked first: only what is read shows that it can be read
            schema = schema_of(connection)
            yield ok("database", f"{shown} answers")
            if is_file:
                yield soundness(connection)
                yield mode(connection)
            yield schema
            if schema.words != NO_SCHEMA and schema.verdict != Verdict.BAD:
                yield from examine_work(connection, settings)
    except (SQLAlchemyError, sqlite3.Error) as error:
        yield unreadable(shown, error)
    finally:
        engine.dispose()


def unreadable(shown: str, error: Exception) -> Finding:
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    if "locked" in words:
        way_out = "some process holds it for itself; wait for it, or end it"
    elif "not a database" in words or "malformed" in words:
        way_out = RESTORE
    else:
        way_out = "check that it is there, that it may be read, and TRICKLAB_DATABASE"
    return bad("database", f"{shown} cannot be read: {words}", way_out)


def soundness(connection: Connection) -> Finding:
    found = damage(driver(connection))
    if found:
        return bad("integrity", f"the database is damaged: {'; '.join(found[:3])}", RESTORE)
    return ok("integrity", "every page and every reference is sound")


def mode(connection: Connection) -> Finding:
    found = journal_mode(driver(connection))
    if found == "wal":
        return ok("journal", "a write-ahead log")
    return warning(
        "journal",
        f"{found}: readers and writers would wait for each other",
        "nothing, if the next start of Tricklab changes it; else the disk cannot do it",
    )


NO_SCHEMA = "none yet: the first start makes it"


def schema_of(connection: Connection) -> Finding:
    current = MigrationContext.configure(connection).get_current_revision()
    newest = newest_revision()
    if current is None:
        return ok("schema", NO_SCHEMA)
    if current == newest:
        return ok("schema", f"{current}, the newest")
    if current in revisions():
        return warning(
            "schema",
            f"{current} is older than {newest}",
            "the next start migrates it, after a backup; `tricklab migrate` does so at once",
        )
    return bad(
        "schema",
        f"{current} is not known to this program: a newer Tricklab made it",
        "run that one, or choose another folder or database",
    )
