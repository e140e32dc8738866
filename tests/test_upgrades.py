"""Upgrades: an old lab keeps every row, has a backup of itself, and survives a failed one."""

import json
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from lab import tiny_config
from sqlalchemy import event

from app.backup import KEPT
from app.db import current_revision, migrate, newest_revision, open_database, revisions
from app.settings import ROOT, Settings
from trainer.part import Refused
from trainer.store.database import connect

Tables = Mapping[str, tuple[Sequence[str], Sequence[Any]]]
"""Every table's columns and rows."""

OLD = revisions()[:-1]


def old_lab(folder: Path, schema: str = "0001") -> Settings:
    """A lab as the program of that schema left it, with rows in every table of the first."""
    settings = Settings(folder=folder)
    engine = connect(settings.database_url)
    migrate(engine, "0001")
    with closing(sqlite3.connect(folder / "tricklab.db")) as connection, connection:
        config = json.dumps(tiny_config().model_dump(mode="json"))
        for number, status in enumerate(("finished", "running", "paused", "queued"), start=1):
            connection.execute(
                "INSERT INTO runs (id, name, config, status, attempt, fence, step, created_at, "
                "parent_id) VALUES (?, ?, ?, ?, 2, 3, 40, 1.7e9, ?)",
                (number, f"run-{number}", config, status, 1 if number > 1 else None),
            )
        connection.executescript(REST)
    migrate(engine, schema)
    engine.dispose()
    return settings


REST = """
INSERT INTO workers VALUES (1, 'here', 77, 'cpu', 'a processor', 1.7e9, 1.7e9, NULL);
UPDATE runs SET worker_id = 1 WHERE id = 2;
INSERT INTO run_events VALUES (5, 1, 1.7e9, 'queued', 'person', 'text');
INSERT INTO series VALUES (1, 2, '', 'loss', '', 2, 1, 1, 2, 0.5, NULL, 0.5, 1, 0.5, 1, 0.5);
INSERT INTO series_chunks VALUES (1, 0, 0, 2, 1, 2, 0.5, 0.5, 0.5, x'00ff10');
INSERT INTO layer_outputs VALUES (1, 2, 'head', 0, 1, 'channels', '[1]', '[1]', 'float32', 0, 1,
                                  x'0102');
INSERT INTO checkpoints VALUES (1, 2, 40, 'step-40.safetensors', 9, 'ab', 1.7e9);
INSERT INTO log_chunks VALUES (2, 0, 2, 1.7e9, 'a line');
"""


def tables(file: Path) -> Tables:
    with closing(sqlite3.connect(file)) as connection:
        named = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        found = {}
        for (name,) in connection.execute(named).fetchall():
            rows = connection.execute(f"SELECT * FROM {name}")
            found[name] = ([column[0] for column in rows.description], sorted(rows, key=repr))
        return found


def within(new: Tables, old: Tables) -> Tables:
    """What the new tables hold in the columns of the old ones."""
    kept = {}
    for name, (columns, _) in old.items():
        places = [new[name][0].index(column) for column in columns]
        rows = [tuple(row[place] for place in places) for row in new[name][1]]
        kept[name] = (columns, sorted(rows, key=repr))
    return kept


def backups(settings: Settings) -> list[Path]:
    return sorted((settings.folder / "backups").glob("*"))


# -- what an upgrade keeps ------------------------------------------------------------------


@pytest.mark.parametrize("schema", OLD)
def test_an_upgrade_changes_no_row_that_was_there(tmp_path: Path, schema: str) -> None:
    settings = old_lab(tmp_path, schema)
    before = tables(tmp_path / "tricklab.db")
    emptied = {"alembic_version", "queue_state", "tokens", "audit", "inquiries"}
    assert all(rows for name, (_, rows) in before.items() if name not in emptied)
    open_database(settings).dispose()
    after = dict(within(tables(tmp_path / "tricklab.db"), before))
    assert after.pop("alembic_version")[1] == [(newest_revision(),)]
    assert after == {name: table for name, table in before.items() if name != "alembic_version"}


@pytest.mark.parametrize("schema", OLD)
def test_the_backup_before_an_upgrade_is_the_old_database(tmp_path: Path, schema: str) -> None:
    settings = old_lab(tmp_path, schema)
    before = tables(tmp_path / "tricklab.db")
    open_database(settings).dispose()
    (backup,) = backups(settings)
    assert backup.name.startswith(f"before-{newest_revision()}-")
    assert tables(backup) == before


def test_a_fresh_lab_and_one_that_is_up_to_date_get_no_backup(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    for _ in range(2):
        open_database(settings).dispose()
        assert backups(settings) == []


def test_only_the_newest_backups_of_upgrades_are_kept(tmp_path: Path) -> None:
    settings = old_lab(tmp_path)
    folder = tmp_path / "backups"
    folder.mkdir()
    asked_for = [folder / "tricklab-0001-20200101T000000.000000Z.db", folder / "before-mine.db"]
    earlier = [folder / f"before-0009-2020010{day}T000000.000000Z.db" for day in range(1, 8)]
    for path in (*asked_for, *earlier):
        path.touch()
    open_database(settings).dispose()
    made = [path for path in backups(settings) if path not in (*asked_for, *earlier)]
    assert len(made) == 1
    assert set(backups(settings)) == {*asked_for, *earlier[-KEPT + 1 :], *made}


# -- an upgrade that does not come to its end -----------------------------------------------

CHANGES = ("ALTER", "CREATE", "DROP", "INSERT", "UPDATE", "DELETE")
KILLED = """
import os, signal, sys
from sqlalchemy import event
from app.db import migrate
from trainer.store.database import connect

def killed_before(url, statements):
    engine = connect(url)

    @event.listens_for(engine, "before_cursor_execute")
    def count(connection, cursor, statement, parameters, context, many):
        nonlocal statements
        if statement.split()[0] in %r:
            if statements == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            statements -= 1

    migrate(engine)

for number, url in enumerate(sys.argv[1:]):
    child = os.fork()
    if child == 0:
        killed_before(url, number)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, number
"""


def test_an_upgrade_that_is_killed_leaves_the_old_lab_as_it_was(tmp_path: Path) -> None:
    before = tables(old_lab(tmp_path / "lab").folder / "tricklab.db")
    labs = [tmp_path / f"lab-{number}" for number in range(changes_of_an_upgrade(tmp_path))]
    assert len(labs) > 5
    for lab in labs:
        shutil.copytree(tmp_path / "lab", lab)
    # one killed before each statement that changes something
    urls = [f"sqlite:///{lab / 'tricklab.db'}" for lab in labs]
    subprocess.run([sys.executable, "-c", KILLED % (CHANGES,), *urls], cwd=ROOT, check=True)
    for lab in labs:
        assert tables(lab / "tricklab.db") == before
        with closing(sqlite3.connect(lab / "tricklab.db")) as connection, connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            # what the old program does next
            connection.execute("UPDATE runs SET step = 41 WHERE id = 2")
    open_database(Settings(folder=labs[-1])).dispose()
    assert len(tables(labs[-1] / "tricklab.db")["runs"][1]) == len(before["runs"][1])


def changes_of_an_upgrade(folder: Path) -> int:
    """How many statements of an upgrade from the first schema change something."""
    engine = connect(old_lab(folder / "counted").database_url)
    verbs: list[str] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, *more: verbs.append(statement.split()[0]),
    )
    migrate(engine)
    engine.dispose()
    return sum(verb in CHANGES for verb in verbs)


def test_a_damaged_lab_is_not_upgraded(tmp_path: Path) -> None:
    settings = old_lab(tmp_path)
    file = tmp_path / "tricklab.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    damage_index(file)
    content = file.read_bytes()
    with pytest.raises(Refused, match=r"not migrated from schema 0001 .* it is damaged: "):
        open_database(settings)
    assert backups(settings) == []
    engine = connect(settings.database_url)
    assert current_revision(engine) == "0001"
    engine.dispose()
    # but for two bytes of the header, which say that there is a log again
    assert file.read_bytes()[100:] == content[100:]


def damage_index(file: Path) -> None:
    """Take the entries out of an index's page: still a database, and wrong."""
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_run_events_run'"
        (page,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as opened:
        opened.seek((page - 1) * size + 3)
        # the number of entries of the page
        opened.write(b"\0\0")


def test_a_lab_that_cannot_be_backed_up_is_not_upgraded(tmp_path: Path) -> None:
    settings = old_lab(tmp_path)
    before = tables(tmp_path / "tricklab.db")
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises(Refused, match=r"needs a sound backup first.*File exists") as refusal:
        open_database(settings)
    assert "Nothing was changed" in str(refusal.value)
    assert tables(tmp_path / "tricklab.db") == before


def test_what_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "tricklab.db").write_text("no database at all, and longer than a header" * 9)
    with pytest.raises(Refused, match="cannot be opened: file is not a database"):
        open_database(Settings(folder=tmp_path))


def open_at_once(settings: Settings, together: Barrier) -> None:
    together.wait()
    open_database(settings).dispose()


def test_programs_that_start_together_upgrade_once(tmp_path: Path) -> None:
    settings = old_lab(tmp_path)
    before = tables(tmp_path / "tricklab.db")
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    started = [context.Process(target=open_at_once, args=(settings, together)) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    (backup,) = backups(settings)
    assert tables(backup) == before


def test_the_lab_of_a_newer_program_is_refused_before_any_backup(tmp_path: Path) -> None:
    settings = old_lab(tmp_path)
    with closing(sqlite3.connect(tmp_path / "tricklab.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0815'")
    with pytest.raises(Refused, match="schema 0815, which this program does not know: a newer"):
        open_database(settings)
    assert backups(settings) == []
