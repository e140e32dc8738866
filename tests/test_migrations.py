"""Migrations: every schema can be reached, matches the tables in code, and loses no row."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from lab import Lab, points_of, tiny_config
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from app import queue
from app.access import audit
from app.access.roles import Role
from app.access.tokens import make
from app.db import MIGRATIONS, alembic_config, is_migrated, migrate, open_database
from app.events import note_event
from app.inquiries import desk
from app.models import runs
from app.runlog import RunLog
from app.settings import Settings
from trainer.inquiries import Preflight
from trainer.part import Refused
from trainer.probe import Place, quantised
from trainer.store.database import altering, connect, metadata, reading, writing
from trainer.store.writer import SeriesKey, Writer

REVISIONS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'lab.db'}")
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version", "sqlite_sequence"}


def downgrade(engine: Engine, revision: str) -> None:
    with altering(engine) as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def differences(engine: Engine) -> list[Any]:
    """What `alembic check` would find."""
    with reading(engine) as connection:
        # Alembic takes SQLite's empty default for another one; `schema` compares defaults
        options = {"compare_type": True, "compare_server_default": False}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


def test_every_schema_is_reached_from_the_one_before(engine: Engine) -> None:
    assert REVISIONS[0] == "0001"
    for revision in REVISIONS:
        migrate(engine, revision)
        with reading(engine) as connection:
            assert MigrationContext.configure(connection).get_current_revision() == revision
            assert is_migrated(connection) == (revision == REVISIONS[-1])
    assert tables(engine) == set(metadata.tables)


def test_the_newest_schema_is_that_of_the_tables_in_code(engine: Engine) -> None:
    migrate(engine)
    assert differences(engine) == []
    made = connect("sqlite:///:memory:")
    metadata.create_all(made)
    assert schema(engine) == schema(made)
    made.dispose()


def schema(engine: Engine) -> dict[str, Any]:
    """Columns, keys and indexes of every table, and whether it is strict, as the database says."""
    looked = inspect(engine)
    with engine.connect() as connection:
        strict = dict(
            connection.exec_driver_sql("SELECT name, strict FROM pragma_table_list").fetchall()
        )
        # as they were made: of an index for some rows SQLAlchemy tells an object
        indexes = connection.exec_driver_sql(
            "SELECT tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL"
        ).fetchall()
    return {
        name: (
            # in any order: a migration can add a column only behind the others
            sorted((c["name"], str(c["type"]), c["nullable"], str(c["default"])) for c in columns),
            looked.get_pk_constraint(name)["constrained_columns"],
            sorted(str(key) for key in looked.get_foreign_keys(name)),
            sorted(made for table, made in indexes if table == name),
            sorted(str(unique) for unique in looked.get_unique_constraints(name)),
            strict[name],
        )
        for (_, name), columns in looked.get_multi_columns().items()
        if name in metadata.tables
    }


def test_strict_tables_take_no_text_for_a_number(engine: Engine) -> None:
    migrate(engine)
    with pytest.raises(IntegrityError, match="cannot store TEXT value in INTEGER column"):  # noqa: SIM117
        with writing(engine) as connection:
            connection.execute(
                text(
                    "INSERT INTO workers (host, process, device, started_at, seen_at) "
                    "VALUES ('here', 'abc', 'cpu', 0, 0)"
                )
            )


# -- with data ------------------------------------------------------------------------------


def filled(folder: Path) -> Lab:
    """A lab with rows in every table."""
    lab = Lab.at(folder)
    lab.add(tiny_config(), name="parent")
    claim = lab.claim(lab.add(tiny_config(), parent_id=1))
    log = RunLog(lab.engine, claim)
    log.add("a line\n")
    log.flush()
    assert log.timer is None
    with writing(lab.engine) as connection:
        writer = Writer(claim.run_id)
        writer.append(connection, {SeriesKey("loss"): points_of([0.5, 0.25, math.nan])})
        writer.add_layer_outputs(connection, [quantised(Place("a", 0), 0, torch.rand(2, 2))])
        writer.add_checkpoint(connection, 1, "file", 1, "00")
        note_event(connection, claim.run_id, "noted", "person")
        make(connection, "ann", Role.VIEWER)
        line = {"who": "ann", "role": "viewer", "address": "", "method": "POST", "status": 403}
        audit.note(connection, path="/", **line)
        desk.add(connection, Preflight())
    return lab


def contents(engine: Engine) -> dict[str, list[str]]:
    """The rows of every table of ours, as they are stored."""
    with reading(engine) as connection:
        return {
            name: sorted(
                str(tuple(row)) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")
            )
            for name in tables(engine)
        }


def test_migrating_a_filled_database_again_loses_no_row(tmp_path: Path) -> None:
    lab = filled(tmp_path)
    before = contents(lab.engine)
    assert all(before.values()), "a table without rows proves nothing"
    migrate(lab.engine)
    open_database(lab.settings).dispose()
    assert contents(lab.engine) == before


def test_altering_a_table_that_others_refer_to_loses_no_row(tmp_path: Path) -> None:
    from alembic.operations import Operations

    lab = filled(tmp_path)
    before = contents(lab.engine)
    # what a later revision does to a column: on SQLite the table is copied and dropped
    with altering(lab.engine) as connection:
        operations = Operations(MigrationContext.configure(connection))
        for table in ("workers", "runs", "series"):
            with operations.batch_alter_table(table, recreate="always") as batch:
                batch.alter_column("id", comment="copied")
    assert contents(lab.engine) == before
    with reading(lab.engine) as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    # and references are watched over again: deleting takes the children along
    with writing(lab.engine) as connection:
        queue.requeue(connection, 2, lab.run(2).fence, "over", max_attempts=1)
        queue.remove(connection, 2)
    after = contents(lab.engine)
    left = {name for name, rows in after.items() if rows}
    others = {"run_events", "workers", "queue_state", "tokens", "audit", "inquiries"}
    assert left == {"runs", *others}


def test_every_step_down_and_up_again_keeps_what_the_older_schema_knows(tmp_path: Path) -> None:
    lab = filled(tmp_path)
    for revision, below in zip(REVISIONS[:0:-1], REVISIONS[-2::-1], strict=True):
        before = contents(lab.engine)
        downgrade(lab.engine, below)
        known = tables(lab.engine)
        migrate(lab.engine, revision)
        after = contents(lab.engine)
        assert after.keys() == before.keys()
        assert {name: len(after[name]) for name in known} == {
            name: len(before[name]) for name in known
        }
        downgrade(lab.engine, below)
    downgrade(lab.engine, "base")
    assert tables(lab.engine) == set()
    migrate(lab.engine)
    assert tables(lab.engine) == set(metadata.tables)


def test_a_migration_that_leaves_a_reference_to_nothing_changes_nothing(tmp_path: Path) -> None:
    lab = filled(tmp_path)
    before = contents(lab.engine)
    with pytest.raises(AssertionError, match="references to nothing"):  # noqa: SIM117
        with altering(lab.engine) as connection:
            connection.execute(runs.delete())
    assert contents(lab.engine) == before


def test_a_migration_that_fails_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_fails.py").write_text(
        "from alembic import op\n"
        f"revision, down_revision = '9999', {REVISIONS[-1]!r}\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE half (id INTEGER)')\n"
        "    op.execute('UPDATE runs SET name = NULL')\n"
    )
    lab = filled(tmp_path / "lab")
    before = contents(lab.engine)
    config = alembic_config(folder)

    def upgrade() -> None:
        with altering(lab.engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    with pytest.raises(IntegrityError, match="NOT NULL constraint failed"):
        upgrade()
    assert "half" not in tables(lab.engine)
    assert contents(lab.engine) == before
    with reading(lab.engine) as connection:
        assert is_migrated(connection)


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    engine = open_database(settings)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0815'"))
    engine.dispose()
    with pytest.raises(Refused) as refusal:
        open_database(settings)
    assert "tricklab.db" in str(refusal.value)
    assert "schema 0815, which this program does not know" in str(refusal.value)
    assert "newer Tricklab" in str(refusal.value)
