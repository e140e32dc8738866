"""The doctor: finds what is wrong with a lab, whatever that is, and changes nothing."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, tiny_config
from server import free_port
from sqlalchemy import insert, update
from test_command_line import CommandLine

from app.db import connect, current_revision, migrate, newest_revision
from app.doctor import Finding, Verdict, examine
from app.models import Status, runs, workers
from app.settings import Settings
from trainer.store.database import alone, reading, writing
from trainer.store.database_clock import database_now
from trainer.store.reader import list_checkpoints


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab.at(tmp_path / "lab", port=free_port())
    yield lab
    lab.engine.dispose()


def found(settings: Settings, name: str) -> list[Finding]:
    """What is said under that name; each thing that is not ok has a way out."""
    everything = examine(settings)
    assert all(finding.way_out for finding in everything if finding.verdict != Verdict.OK)
    assert all(len(finding.words.splitlines()) == 1 for finding in everything)
    return [finding for finding in everything if finding.name == name]


def only(settings: Settings, name: str) -> Finding:
    (finding,) = found(settings, name)
    return finding


def bad(settings: Settings) -> dict[str, str]:
    return {one.name: one.words for one in examine(settings) if one.verdict == Verdict.BAD}


def database(lab: Lab) -> Path:
    return lab.settings.folder / "tricklab.db"


def everything_in(folder: Path) -> dict[str, Any]:
    """Every file with its content and when it was changed."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


# -- labs that are well ---------------------------------------------------------------------


def test_nothing_is_bad_in_a_lab_that_works(lab: Lab) -> None:
    lab.train(tiny_config())
    assert bad(lab.settings) == {}
    assert only(lab.settings, "integrity").verdict == Verdict.OK
    assert only(lab.settings, "journal").words == "a write-ahead log"
    assert only(lab.settings, "schema").words == f"{newest_revision()}, the newest"
    assert only(lab.settings, "workers").words.startswith(f"alive: {lab.worker_id} on cpu")
    assert only(lab.settings, "runs").words == "0 running, 0 waiting"
    assert only(lab.settings, "files").verdict == Verdict.OK


@pytest.mark.parametrize("state", ["open", "closed", "killed"])
def test_an_examination_changes_nothing(lab: Lab, tmp_path: Path, state: str) -> None:
    lab.train(tiny_config())
    settings = lab.settings
    if state == "killed":
        # what a process leaves that has no time to close: rows that are in the log only
        shutil.copytree(settings.folder, tmp_path / "left")
        settings = Settings(folder=tmp_path / "left", port=settings.port)
    if state == "closed":
        lab.engine.dispose()
    before = everything_in(settings.folder)
    assert ("tricklab.db-wal" in before) == (state != "closed")
    examine(settings)
    after = everything_in(settings.folder)
    # which readers there are stands in the index of the log, and is nothing of the lab's
    before.pop("tricklab.db-shm", None)
    after.pop("tricklab.db-shm", None)
    assert after == before


def test_a_lab_that_was_never_started_is_examined_and_not_made(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path / "none" / "yet", port=free_port())
    assert bad(settings) == {}
    assert only(settings, "database").words.endswith("is made by the first start")
    assert only(settings, "folder").words.endswith("is made by the first start")
    assert list(tmp_path.iterdir()) == []


# -- the database ---------------------------------------------------------------------------


def test_a_damaged_database_is_told_with_the_way_out(lab: Lab) -> None:
    with closing(sqlite3.connect(database(lab))) as connection, connection:
        connection.execute(
            "INSERT INTO run_events (run_id, at, kind, by) VALUES (77, 0, 'noted', 'person')"
        )
    finding = only(lab.settings, "integrity")
    assert finding.verdict == Verdict.BAD
    assert finding.words.endswith("row 1 of run_events refers to nothing in runs")
    assert "tricklab restore" in finding.way_out


def test_pages_that_are_overwritten_are_told(lab: Lab) -> None:
    lab.engine.dispose()
    size = database(lab).stat().st_size
    with database(lab).open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))
    told = bad(lab.settings)
    assert "damaged" in told.get("integrity", "") or "malformed" in told.get("database", "")


def test_a_file_that_is_no_database_is_told(lab: Lab) -> None:
    lab.engine.dispose()
    database(lab).write_bytes(b"no database" * 999)
    finding = only(lab.settings, "database")
    assert finding.verdict == Verdict.BAD
    assert finding.words.endswith("cannot be read: file is not a database")
    assert "tricklab restore" in finding.way_out


def test_a_database_that_somebody_holds_for_himself_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.store.database.LOOKING_BUSY_SECONDS", 0.1)
    lab.engine.dispose()
    with alone(database(lab)):
        finding = only(lab.settings, "database")
    assert finding.verdict == Verdict.BAD
    assert finding.words.endswith("cannot be read: database is locked")
    assert "some process holds it" in finding.way_out


def test_a_database_of_a_newer_program_is_told(lab: Lab) -> None:
    with closing(sqlite3.connect(database(lab))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0815'")
        connection.execute("ALTER TABLE runs RENAME COLUMN status TO state")
    assert bad(lab.settings) == {
        "schema": "0815 is not known to this program: a newer Tricklab made it"
    }


def test_a_database_of_an_older_program_is_examined_and_not_migrated(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, port=free_port())
    engine = connect(settings.database_url)
    migrate(engine, "0001")
    finding = only(settings, "schema")
    assert finding.verdict == Verdict.WARNING
    assert finding.words == f"0001 is older than {newest_revision()}"
    assert only(settings, "files").verdict == Verdict.OK
    assert bad(settings) == {}
    assert current_revision(engine) == "0001"
    engine.dispose()


def test_a_database_without_a_schema_is_told(tmp_path: Path) -> None:
    (tmp_path / "tricklab.db").touch()
    settings = Settings(folder=tmp_path, port=free_port())
    assert only(settings, "schema").words == "none yet: the first start makes it"
    assert (tmp_path / "tricklab.db").stat().st_size == 0


def test_a_database_without_a_log_is_told(lab: Lab) -> None:
    lab.engine.dispose()
    with closing(sqlite3.connect(database(lab))) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    finding = only(lab.settings, "journal")
    assert finding.verdict == Verdict.WARNING
    assert finding.words.startswith("delete: ")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:1/lab", "cannot be read"),
        ("nonsense", "could not be examined to the end"),
        ("sqlite:////proc/none/lab.db", "made by the first start"),
        ("sqlite://", "in memory"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_without_its_password(
    tmp_path: Path, url: str, words: str
) -> None:
    settings = Settings(folder=tmp_path, database=url, port=free_port())
    finding = only(settings, "database")
    assert words in finding.words
    assert "secret" not in str(examine(settings))


# -- the work -------------------------------------------------------------------------------


def test_a_worker_that_gives_no_sign_is_told(lab: Lab) -> None:
    long_ago = database_now() - 3600
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(seen_at=long_ago))
    finding = only(lab.settings, "workers")
    assert finding.verdict == Verdict.WARNING
    assert "worker 1 on cpu (process 1 on here) gave its last sign 3,600 s ago" in finding.words


def test_workers_that_ended_are_not_spoken_of(lab: Lab) -> None:
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(ended_at=database_now()))
    assert only(lab.settings, "workers").words == "none"


def test_runs_that_nobody_trains_are_told(lab: Lab) -> None:
    # a busy machine may stand still for longer than a lease
    settings = lab.settings.model_copy(update={"lease_seconds": 3600})
    held, waits = lab.add(tiny_config()), lab.add(tiny_config())
    lab.claim(held)
    assert only(settings, "runs").words == "1 running, 1 waiting"
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(ended_at=database_now()))
    lost, waiting = found(settings, "runs")
    assert lost.words == f"run {held} is running, and no living worker holds them"
    assert waiting.words == f"run {waits} is waiting, and no worker lives"
    assert {lost.verdict, waiting.verdict} == {Verdict.WARNING}
    assert "tricklab worker" in waiting.way_out
    with writing(lab.engine) as connection:
        now = {"started_at": database_now(), "seen_at": database_now()}
        connection.execute(insert(workers).values(host="here", process=2, device="cpu", **now))
    (lost,) = found(settings, "runs")
    assert "a living worker takes them over" in lost.way_out


def paused(lab: Lab) -> tuple[int, list[Path]]:
    """A run that is paused, and the files of its checkpoints, the newest first."""
    config = tiny_config(recording={"checkpoint_seconds": 1})
    run_id = lab.add(config)
    lab.train_until(run_id, 2)
    with reading(lab.engine) as connection:
        saved = list_checkpoints(connection, run_id)
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    return run_id, [folder / row.file for row in saved]


def test_a_checkpoint_that_can_be_resumed_from_is_ok(lab: Lab) -> None:
    paused(lab)
    words = "the newest of 1 unfinished runs can be resumed from"
    assert only(lab.settings, "checkpoints").words == words


@pytest.mark.parametrize("fault", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_of_an_unfinished_run_is_told(lab: Lab, fault: str) -> None:
    run_id, files = paused(lab)
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content if fault == "flipped" else content[:100])
        if fault == "gone":
            file.unlink()
    finding = found(lab.settings, "checkpoints")[0]
    assert finding.verdict == Verdict.BAD
    assert f"{files[0]}, the newest of run {run_id}, is missing or damaged" in finding.words
    with writing(lab.engine) as connection:
        connection.execute(update(runs).values(status=Status.CANCELLED))
    assert only(lab.settings, "checkpoints").verdict == Verdict.OK


def test_a_damaged_checkpoint_with_a_whole_one_before_is_no_loss(lab: Lab) -> None:
    from trainer.store.writer import Writer

    run_id, files = paused(lab)
    with writing(lab.engine) as connection:
        Writer(run_id).add_checkpoint(connection, 3, "step-3.safetensors", 10, "00")
    finding = found(lab.settings, "checkpoints")[0]
    assert finding.verdict == Verdict.WARNING
    assert finding.way_out == "nothing: the run resumes from the one at step 2"
    assert files


def test_files_that_belong_to_no_run_are_told(lab: Lab) -> None:
    lab.train(tiny_config())
    stray = lab.settings.run_folder(77)
    (stray / "checkpoints").mkdir(parents=True)
    (stray / "checkpoints" / "file").write_bytes(b"x" * 2_000_000)
    (lab.settings.folder / "runs" / "notes").mkdir()
    finding = only(lab.settings, "files")
    assert finding.verdict == Verdict.WARNING
    assert finding.words == f"{stray} belong to no run (2.0 MB)"


# -- the command ----------------------------------------------------------------------------


@pytest.fixture
def tricklab(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    for name, value in lab.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    return CommandLine(lab.settings.folder, capsys)


def test_the_command_fails_only_when_something_is_bad(lab: Lab, tricklab: CommandLine) -> None:
    said = tricklab("doctor")
    assert said.code == 0
    assert "ok      integrity: every page and every reference is sound\n" in said.out
    lab.engine.dispose()
    database(lab).write_bytes(b"no database" * 999)
    said = tricklab("doctor")
    assert said.code == 1
    assert "bad     database: " in said.out
    assert "        -> end everything that uses it; `tricklab restore`" in said.out
    assert said.err == ""
    said = tricklab("doctor", "--json")
    assert said.code == 1
    findings = json.loads(said.out)
    assert findings[0].keys() == {"name", "verdict", "words", "way_out"}
    assert {one["name"] for one in findings if one["verdict"] == "bad"} == {"database"}
