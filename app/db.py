"""The lab's database: one engine per process, migrated before use."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from app.settings import ROOT, Settings
from trainer.part import Refused
from trainer.store.database import altering, connect

MIGRATIONS = ROOT / "migrations"


def open_database(settings: Settings) -> Engine:
    """An engine on the settings' database, brought to the newest schema."""
    engine = connect(settings.database_url)
    migrate(engine)
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


def must_be_known(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if current is not None and current not in known:
        raise Refused(
            f"{connection.engine.url.render_as_string(hide_password=True)} has schema {current}, "
            "which this program does not know: a newer Tricklab made it. Run that one, or choose "
            "another folder or database"
        )


def is_migrated(connection: Connection) -> bool:
    """Whether the schema is the newest this program knows."""
    current = MigrationContext.configure(connection).get_current_revision()
    return current == ScriptDirectory(str(MIGRATIONS)).get_current_head()


def alembic_config(folder: Path = MIGRATIONS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config
