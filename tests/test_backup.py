"""Backups: whole, sound, taken while others write, and never half."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from lab import Lab, tiny_config
from sqlalchemy import select
from test_command_line import CommandLine

from app.backup import make_backup
from app.db import newest_revision
from app.events import note_event
from app.settings import ROOT, Settings
from trainer import failpoints
from trainer.part import Refused
from trainer.store.database import connect, metadata, reading, writing


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab.at(tmp_path / "lab")
    lab.train(tiny_config())
    lab.add(tiny_config())
    yield lab
    lab.engine.dispose()


def contents(file: Path) -> dict[str, list[str]]:
    engine = connect(f"sqlite:///{file}")
    with reading(engine) as connection:
        found = {
            name: sorted(str(tuple(row)) for row in connection.execute(select(table)))
            for name, table in metadata.tables.items()
        }
    engine.dispose()
    return found


def database(lab: Lab) -> Path:
    return lab.settings.folder / "tricklab.db"


def grown(lab: Lab, megabytes: int = 4) -> None:
    """Make the database so large that it is copied in several steps."""
    with writing(lab.engine) as connection:
        for _ in range(megabytes):
            note_event(connection, 1, "noted", "person", os.urandom(500_000).hex())


def command(lab: Lab, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env={**os.environ, **lab.settings.as_environment(), **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


# -- what is in it --------------------------------------------------------------------------


def test_a_backup_holds_every_row_in_one_file(lab: Lab) -> None:
    backup = make_backup(lab.settings)
    assert backup.path.parent == lab.settings.folder / "backups"
    assert backup.path.name.startswith(f"tricklab-{newest_revision()}-")
    assert (backup.schema, backup.runs) == (newest_revision(), 2)
    assert backup.bytes == backup.path.stat().st_size
    assert list(backup.path.parent.iterdir()) == [backup.path]
    rows = contents(database(lab))
    assert rows["series_chunks"]
    assert rows["checkpoints"]
    assert contents(backup.path) == rows


def test_a_backup_can_be_read_where_nothing_can_be_written(lab: Lab) -> None:
    backup = make_backup(lab.settings)
    # such a file must not need a log beside it
    with closing(sqlite3.connect(f"file:{backup.path}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert list(backup.path.parent.iterdir()) == [backup.path]


def test_a_backup_is_as_private_as_the_database(lab: Lab) -> None:
    database(lab).chmod(0o600)
    backup = make_backup(lab.settings)
    assert stat.S_IMODE(backup.path.stat().st_mode) == 0o600


def test_what_is_still_in_the_log_is_backed_up_too(lab: Lab, tmp_path: Path) -> None:
    with writing(lab.engine) as connection:
        note_event(connection, 1, "noted", "person", "just now")
    assert database(lab).with_name("tricklab.db-wal").stat().st_size
    backup = make_backup(lab.settings, tmp_path / "mine.db")
    assert "just now" in str(contents(backup.path)["run_events"])


WRITER = """
import sys
from app.events import note_event
from trainer.store.database import connect, writing

engine = connect(sys.argv[1])
for number in range(1_000_000):
    with writing(engine, durable=False) as connection:
        note_event(connection, 1, "counted", "writer", str(number))
    print(number, flush=True)
"""


def test_a_backup_holds_all_that_was_committed_before_while_another_process_writes(
    lab: Lab,
) -> None:
    grown(lab)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, lab.settings.database_url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    try:
        for _ in range(5):
            committed = int(writer.stdout.readline())
            backup = make_backup(lab.settings)
            with closing(sqlite3.connect(backup.path)) as connection:
                query = "SELECT CAST(text AS INTEGER) FROM run_events WHERE kind = 'counted'"
                numbers = [number for (number,) in connection.execute(f"{query} ORDER BY id")]
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > committed
            # and it went on meanwhile
            assert int(writer.stdout.readline()) > committed
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


# -- what goes wrong ------------------------------------------------------------------------


def test_a_damaged_database_gives_no_backup(lab: Lab) -> None:
    grown(lab)
    lab.engine.dispose()
    with database(lab).open("r+b") as file:
        file.seek(-4096 * 8, os.SEEK_END)
        file.write(b"\xff" * 4096 * 4)
    with pytest.raises(Refused, match=r"tricklab.db was not backed up: (it is damaged|database)"):
        make_backup(lab.settings)
    assert list((lab.settings.folder / "backups").iterdir()) == []


def test_a_row_that_refers_to_nothing_gives_no_backup(lab: Lab) -> None:
    with closing(sqlite3.connect(database(lab))) as connection, connection:
        connection.execute("UPDATE series SET run_id = 77 WHERE id = 1")
    with pytest.raises(Refused, match=r"damaged: row \d+ of series refers to nothing in runs"):
        make_backup(lab.settings)
    assert list((lab.settings.folder / "backups").iterdir()) == []


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from app.cli import main
sys.argv = ["tricklab", "backup"]
main()
"""


def test_a_backup_that_cannot_be_written_to_its_end_leaves_nothing(lab: Lab) -> None:
    grown(lab)
    lab.engine.dispose()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        env={**os.environ, **lab.settings.as_environment()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tricklab: {database(lab)} was not backed up: ")
    assert list((lab.settings.folder / "backups").iterdir()) == []


def test_a_disk_that_is_full_at_the_very_end_leaves_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "FOLDER", str(tmp_path))
    (tmp_path / "backup.written").write_text("no-space")
    with pytest.raises(Refused, match="not backed up: No space left on device"):
        make_backup(lab.settings)
    assert list((lab.settings.folder / "backups").iterdir()) == []


def test_a_disk_with_too_little_room_is_told_before_it_is_filled(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.verified_copy.TO_SPARE", 10**18)
    with pytest.raises(Refused, match=r"it takes [\d.]+ MB in .*backups, where only .* are free"):
        make_backup(lab.settings)


def test_what_a_killed_backup_leaves_is_cleared_away_later(lab: Lab, tmp_path: Path) -> None:
    grown(lab)
    (tmp_path / "backup.copying").write_text("kill 1")
    killed = command(lab, "backup", TRICKLAB_FAILPOINTS=str(tmp_path))
    assert killed.returncode == -signal.SIGKILL
    folder = lab.settings.folder / "backups"
    left = list(folder.iterdir())
    assert left
    assert not [path for path in left if path.suffix == ".db"]
    backup = make_backup(lab.settings)
    # another process may still be at work on what is so young
    assert set(left) < set(folder.iterdir())
    for path in left:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    backup.path.unlink()
    backup = make_backup(lab.settings)
    assert list(folder.iterdir()) == [backup.path]


def test_a_file_that_is_there_is_not_written_over(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "mine.db").write_text("precious")
    with pytest.raises(Refused, match=r"mine\.db exists already; name a new file"):
        make_backup(lab.settings, tmp_path / "mine.db")
    with pytest.raises(Refused, match=r"tricklab\.db exists already"):
        make_backup(lab.settings, database(lab))
    with pytest.raises(Refused, match=r"there is no folder .*missing; make it first"):
        make_backup(lab.settings, tmp_path / "missing" / "mine.db")
    assert (tmp_path / "mine.db").read_text() == "precious"


def test_a_lab_without_a_database_has_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no database .*: nothing to back up"):
        make_backup(Settings(folder=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_what_is_no_lab_is_not_backed_up(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    settings = Settings(folder=tmp_path, database=f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(Refused, match=r"other\.db holds no lab: it has no schema"):
        make_backup(settings)


def test_a_server_of_databases_is_refused_with_its_own_command_and_without_its_password() -> None:
    settings = Settings(database="postgresql+psycopg://me:secret@here/lab")
    with pytest.raises(Refused) as refusal:
        make_backup(settings)
    words = "pg_dump --format=custom --file=tricklab.dump 'postgresql://me:***@here/lab'"
    assert words in str(refusal.value)
    assert "secret" not in str(refusal.value)
    with pytest.raises(Refused, match="in memory"):
        make_backup(Settings(database="sqlite://"))


# -- the command ----------------------------------------------------------------------------


@pytest.fixture
def tricklab(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    monkeypatch.setenv("TRICKLAB_FOLDER", str(lab.settings.folder))
    return CommandLine(lab.settings.folder, capsys)


def test_the_command_says_where_the_backup_is(
    lab: Lab, tricklab: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    said = tricklab("backup", "--to", str(tmp_path / "disk"), "--json")
    assert said.code == 0
    made = json.loads(said.out)
    assert made.keys() == {"path", "bytes", "schema", "runs", "seconds"}
    assert Path(made["path"]).parent == tmp_path / "disk"
    assert contents(Path(made["path"])) == contents(database(lab))
    said = tricklab("backup", "--to", str(tmp_path / "mine.db"))
    assert said.out.startswith(f"{tmp_path / 'mine.db'} is a sound backup: schema ")
    (words,) = tricklab.refused("backup", "--to", str(tmp_path / "mine.db"))
    assert "exists already" in words
