"""Restore: a backup becomes the database, all of it or nothing, and only where nobody works."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from lab import Lab, tiny_config
from test_backup import command, contents, database, grown

from app.backup import make_backup
from app.locks import ProcessLock
from app.restore import restore
from app.settings import ROOT
from trainer.part import Refused


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with a backup of one run, and a second run since; nobody has it open."""
    lab = Lab.at(tmp_path / "lab")
    lab.train(tiny_config())
    make_backup(lab.settings, tmp_path / "backup.db")
    lab.add(tiny_config(), name="since")
    lab.engine.dispose()
    yield lab
    lab.engine.dispose()


@pytest.fixture
def backup(lab: Lab, tmp_path: Path) -> Path:
    return tmp_path / "backup.db"


HOLDER = """
import sys
from trainer.store.database import connect, reading

engine = connect(sys.argv[1])
with reading(engine) as connection:
    connection.exec_driver_sql("SELECT count(*) FROM runs").all()
print("has it open, and is idle", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_open(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Another process has the database open, like a server that nobody asks anything."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lab.settings.database_url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        try:
            yield holder
        finally:
            holder.kill()


# -- what becomes of the database -----------------------------------------------------------


def test_a_restored_database_holds_what_the_backup_holds(lab: Lab, backup: Path) -> None:
    before = contents(database(lab))
    done = restore(lab.settings, backup)
    assert (done.path, done.runs) == (database(lab), 1)
    assert contents(database(lab)) == contents(backup)
    assert done.replaced is not None
    assert contents(done.replaced) == before


def test_no_log_of_the_replaced_database_stays(lab: Lab, backup: Path) -> None:
    # left by processes that were killed: with it the next start would get the old rows back
    with held_open(lab) as holder:
        lab.add(tiny_config(), name="in the log")
        lab.engine.dispose()
        holder.kill()
        holder.wait()
    log = database(lab).with_name("tricklab.db-wal")
    assert log.stat().st_size
    done = restore(lab.settings, backup)
    assert [path.name for path in lab.settings.folder.glob("tricklab.db*")] == ["tricklab.db"]
    assert contents(database(lab)) == contents(backup)
    assert done.replaced is not None
    assert "in the log" in str(contents(done.replaced)["runs"])


def test_a_database_that_is_gone_is_restored(lab: Lab, backup: Path) -> None:
    database(lab).unlink()
    assert restore(lab.settings, backup).replaced is None
    assert contents(database(lab)) == contents(backup)


def test_a_database_that_cannot_be_read_is_kept_beside(lab: Lab, backup: Path) -> None:
    with database(lab).open("r+b") as file:
        file.write(b"x" * 4096)
    wreck = database(lab).read_bytes()
    done = restore(lab.settings, backup)
    assert contents(database(lab)) == contents(backup)
    assert done.replaced is not None
    assert done.replaced.read_bytes() == wreck


def test_a_number_that_was_given_since_is_not_given_again(lab: Lab, backup: Path) -> None:
    lab.settings.run_folder(7).mkdir(parents=True)
    restore(lab.settings, backup)
    assert lab.add(tiny_config()) == 8
    lab.engine.dispose()
    lab.settings.run_folder(7).rmdir()
    restore(lab.settings, backup)
    assert lab.add(tiny_config()) == 9


# -- when it is refused ---------------------------------------------------------------------


@pytest.mark.parametrize("is_frozen", [False, True])
def test_nothing_is_restored_while_another_process_has_the_database_open(
    lab: Lab, backup: Path, is_frozen: bool
) -> None:
    before = contents(database(lab))
    with held_open(lab) as holder:
        if is_frozen:
            holder.send_signal(signal.SIGSTOP)
        with pytest.raises(Refused, match=r"another process has .* open; end the server"):
            restore(lab.settings, backup)
    assert contents(database(lab)) == before
    assert not any((lab.settings.folder / "backups").iterdir())


def test_an_unreadable_database_is_not_taken_from_a_process_that_has_it_open(
    lab: Lab, backup: Path
) -> None:
    with held_open(lab):
        with database(lab).open("r+b") as file:
            file.write(b"x" * 4096)
        wreck = database(lab).read_bytes()
        with pytest.raises(Refused, match=r"another process has .* open"):
            restore(lab.settings, backup)
    assert database(lab).read_bytes() == wreck


def test_nothing_is_restored_while_a_worker_lives(lab: Lab, backup: Path) -> None:
    before = contents(database(lab))
    with (
        ProcessLock(lab.settings.folder / "locks" / "worker-1.lock"),
        pytest.raises(Refused, match=r"holds worker-1\.lock.*end the server and its workers first"),
    ):
        restore(lab.settings, backup)
    assert contents(database(lab)) == before


def test_a_damaged_backup_is_not_restored(lab: Lab, backup: Path) -> None:
    before = contents(database(lab))
    with backup.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    with pytest.raises(Refused, match=r"backup\.db was not restored"):
        restore(lab.settings, backup)
    assert contents(database(lab)) == before


def test_what_is_no_backup_of_this_program_is_not_restored(lab: Lab, backup: Path) -> None:
    before = contents(database(lab))
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0815'")
    with pytest.raises(Refused, match="it has schema 0815, which this program does not know"):
        restore(lab.settings, backup)
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    with pytest.raises(Refused, match="holds no lab"):
        restore(lab.settings, backup)
    with pytest.raises(Refused, match="there is no file"):
        restore(lab.settings, backup.with_name("missing.db"))
    with pytest.raises(Refused, match="is the database itself"):
        restore(lab.settings, database(lab))
    assert contents(database(lab)) == before


@pytest.mark.parametrize("point", ["restore.keeping", "restore.copying"])
def test_a_restore_that_is_killed_leaves_the_database_as_it_was(
    lab: Lab, backup: Path, tmp_path: Path, point: str
) -> None:
    grown(lab)
    lab.engine.dispose()
    backup.unlink()
    make_backup(lab.settings, backup)
    lab.add(tiny_config(), name="since the backup")
    lab.engine.dispose()
    before = contents(database(lab))
    (tmp_path / point).write_text("kill 2")
    killed = command(lab, "restore", str(backup), TRICKLAB_FAILPOINTS=str(tmp_path))
    assert killed.returncode == -signal.SIGKILL
    assert contents(database(lab)) == before
    # and nothing stands in the way of the next
    done = command(lab, "restore", str(backup))
    assert done.returncode == 0, done.stderr
    assert contents(database(lab)) == contents(backup)
