"""Database: G6, G12, G13: durable writes, upgrades that are killed, locked and read-only files."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
from lab import Lab, tiny_config
from server import API, client_at, free_port, is_up, wait_for
from test_upgrades import CHANGES, KILLED, OLD, changes_of_an_upgrade, old_lab, tables, within

from app.db import open_database
from app.settings import ROOT, Settings
from faults.disks import small_disk
from faults.promise import Shown
from trainer.store.database import writing


def acknowledged_changes_are_durable(folder: Path) -> Shown:
    """What SQLite is told at each kind of write; the power itself is not cut here."""
    shown = Shown("G6", "changes of runs are written with synchronous=FULL, metrics with NORMAL")
    lab = Lab.at(folder / "durable")
    for durable, level in ((True, 2), (False, 1)):
        with writing(lab.engine, durable=durable) as connection:
            found = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        shown.must(found == level, f"durable={durable} writes with synchronous={found}")
    lab.engine.dispose()
    return shown


def upgrades_keep_all(folder: Path) -> Shown:
    """Upgrade from every schema there was; kill an upgrade before each of its changes."""
    shown = Shown("G12", "")
    started = time.monotonic()
    for schema in OLD:
        settings = old_lab(folder / f"from-{schema}", schema)
        before = tables(settings.folder / "tricklab.db")
        open_database(settings).dispose()
        after = dict(within(tables(settings.folder / "tricklab.db"), before))
        for table, rows in before.items():
            is_kept = table == "alembic_version" or after[table] == rows
            shown.must(is_kept, f"the upgrade from {schema} changed rows of {table}")
    kills = kill_upgrades(folder, shown)
    shown.what = f"upgraded from {len(OLD)} older schemas, killed before each of {kills} changes"
    shown.seconds = time.monotonic() - started
    return shown


def kill_upgrades(folder: Path, shown: Shown) -> int:
    before = tables(old_lab(folder / "old").folder / "tricklab.db")
    labs = [folder / f"killed-{number}" for number in range(changes_of_an_upgrade(folder))]
    for lab in labs:
        shutil.copytree(folder / "old", lab)
    urls = [f"sqlite:///{lab / 'tricklab.db'}" for lab in labs]
    done = subprocess.run([sys.executable, "-c", KILLED % (CHANGES,), *urls], cwd=ROOT, check=False)
    shown.must(done.returncode == 0, "an upgrade was not killed where it should have been")
    for lab in labs:
        shown.must(tables(lab / "tricklab.db") == before, f"{lab.name}: rows were changed")
        with closing(sqlite3.connect(lab / "tricklab.db")) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        shown.must(found == [("ok",)], f"{lab.name}: {found}")
        open_database(Settings(folder=lab)).dispose()
    return len(labs)


# -- G13: locked, and read-only -------------------------------------------------------------


TOKEN = "of-the-one-who-asks-while-it-is-locked"


@contextlib.contextmanager
def server_on(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], httpx2.Client]]:
    port = free_port()
    mine = {"PYTHONPATH": str(ROOT), "TRICKLAB_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--no-worker", "--port", str(port)],
        env={**os.environ, **settings.as_environment(), **mine},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with client_at(port) as client:
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            wait_for(lambda: is_up(client))
            yield process, client
    finally:
        process.kill()
        process.wait()


def a_locked_database_gives_a_503(folder: Path) -> Shown:
    """Hold the write lock; then mount the folder read-only: clear answers, and no crash."""
    shown = Shown("G13", "")
    started = time.monotonic()
    lab = Lab.at(folder / "locked")
    told = []
    with server_on(lab.settings) as (process, client):
        with lock_held(lab.settings.folder / "tricklab.db"):
            told.append(asked_to_write(client, shown, "locked"))
            shown.must(client.get(f"{API}/runs").status_code == 200, "reading was refused too")
        shown.must(queue_one(client).status_code == 201, "it did not recover from the lock")
        shown.must(process.poll() is None, "the server ended")
    lab.engine.dispose()
    try:
        with small_disk(folder / "read-only") as disk:
            told.append(read_only(disk, shown))
    except PermissionError as error:
        told.append(f"read-only not shown here: {error}")
    shown.what = "; ".join(told)
    shown.seconds = time.monotonic() - started
    return shown


def read_only(disk: Path, shown: Shown) -> str:
    """A lab that cannot be written to is not served, with the reason in a line."""
    lab = Lab.at(disk / "lab")
    lab.engine.dispose()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--no-worker", "--port", str(free_port())],
        env={**os.environ, **lab.settings.as_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    is_told = done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.strip()
    shown.must(is_told, f"read-only: exit {done.returncode}, {done.stderr[-300:]}")
    return "read-only: refused in a line"


def queue_one(client: httpx2.Client) -> httpx2.Response:
    return client.post(f"{API}/runs", json={"config": tiny_config().model_dump(mode="json")})


def asked_to_write(client: httpx2.Client, shown: Shown, state: str) -> str:
    began = time.monotonic()
    answer = queue_one(client)
    seconds = time.monotonic() - began
    shown.must(answer.status_code == 503, f"{state}: the answer was {answer.status_code}")
    is_told = "nothing was changed, try again" in answer.json().get("detail", "")
    shown.must(is_told, f"{state}: it said {answer.text[:200]}")
    shown.must("retry-after" in answer.headers, f"{state}: no Retry-After")
    return f"{state}: a 503 after {seconds:.1f} s"


@contextlib.contextmanager
def lock_held(file: Path) -> Iterator[None]:
    """SQLite's write lock, held by another connection."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()
