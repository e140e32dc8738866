"""The same lab on PostgreSQL: a throw-away cluster, where the programs for one are installed."""

import math
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fastapi import FastAPI
from lab import Lab, tiny_config
from server import API, client_of, refusal
from sqlalchemy import inspect, text, update
from sqlalchemy.exc import OperationalError

from app import connections, finding, labels, order, queue
from app.connections import Reading
from app.db import is_migrated, open_database
from app.executors.training import train_claimed
from app.inquiries import desk
from app.inquiries.desk import Errand, ErrandLost
from app.liveness import Liveness
from app.models import Asked, Status, workers
from app.problems import TOOK_TOO_LONG
from app.queue import ClaimLost
from app.run_query import RunQuery
from app.run_view import list_runs
from app.runlog import RunLog
from app.settings import Settings
from trainer.failures import Cause, Failure
from trainer.inquiries import Preflight
from trainer.store.curve_reader import read_curves
from trainer.store.database import connect, limited, metadata, reading, writing
from trainer.store.database_clock import database_now
from trainer.store.reader import find_series, list_layer_outputs, read_log

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
OWNER = "postgres"

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL's programs are not installed")


def as_owner(*command: str) -> None:
    """Run one of PostgreSQL's programs; as its own user where this is root, whom it refuses."""
    prefix = ["runuser", "-u", OWNER, "--"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*prefix, str(PROGRAMS[-1].parent / command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A PostgreSQL that listens on a socket in this folder, and nowhere else."""
    # short, as the address of a socket must be, and outside what only this user may enter
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, OWNER)
    data = str(folder / "data")
    try:
        as_owner("initdb", "-D", data, "-U", OWNER, "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses='' -k {folder} -c fsync=off"
        as_owner("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield folder
        finally:
            as_owner("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def url(cluster: Path) -> str:
    """The address of an empty database."""
    server = f"postgresql+psycopg://{OWNER}@/%s?host={cluster}"
    engine = connect(server % "postgres").execution_options(isolation_level="AUTOCOMMIT")
    name = f"lab{time.monotonic_ns()}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server % name


@pytest.fixture
def lab(url: str, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab.at(tmp_path, database=url)
    yield lab
    lab.engine.dispose()


def test_the_schema_is_that_of_the_tables_in_code(lab: Lab) -> None:
    with reading(lab.engine) as connection:
        assert is_migrated(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    names = set(inspect(lab.engine).get_table_names())
    assert names == {*metadata.tables, "alembic_version"}


def migrate_together(url: str, folder: Path, together: Barrier) -> None:
    """What a server and a worker do when they start; the main function of one process."""
    together.wait(timeout=60)
    open_database(Settings(folder=folder, database=url)).dispose()


def test_a_server_and_a_worker_that_start_together_migrate_once(url: str, tmp_path: Path) -> None:
    starting = multiprocessing.get_context("forkserver")
    starting.set_forkserver_preload(["app.executors.training", "hypothesis.stateful", "pytest"])
    together = starting.Barrier(3)
    processes = [
        starting.Process(target=migrate_together, args=(url, tmp_path, together)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_racing_workers_never_claim_the_same_run_and_leave_none(lab: Lab) -> None:
    numbers = [lab.add(tiny_config(), priority=n % 2) for n in range(40)]
    claimed: list[int] = []
    together = threading.Barrier(4)

    def claim_all() -> None:
        together.wait()
        while True:
            with writing(lab.engine) as connection:
                claim = queue.claim(connection, lab.worker_id)
            if claim is not None:
                claimed.append(claim.run_id)
            elif not has_queued(lab):
                return

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == numbers
    assert {lab.run(number).attempt for number in numbers} == {1}


def has_queued(lab: Lab) -> bool:
    """Whether any run waits: a claim passes over one that another worker is just taking."""
    with reading(lab.engine) as connection:
        return bool(list_runs(connection, RunQuery(status=Status.QUEUED)))


def test_a_run_is_trained_and_its_curve_read_back_with_what_is_undefined(lab: Lab) -> None:
    run_id = lab.train(
        tiny_config(
            model={"name": "mlp", "hidden": [8]},
            loss={"name": "mse"},
            optimizer={"learning_rate": 1000},
            budget={"epochs": 20, "stop_when_diverged": False},
            recording={"layer_steps": "end"},
            tricks=[{"name": "seed"}, {"name": "gradient_accumulation", "steps": 2}],
        )
    )
    run = lab.run(run_id)
    assert (run.status, run.reason) == (Status.FINISHED, "")
    assert run.result["val_loss"] == "NaN"
    assert set(run.evidence) == {"seed", "gradient_accumulation"}
    values = lab.points(run_id, "train_loss").values
    assert len(values) == run.step == 40
    assert math.isfinite(values[0])
    assert math.isnan(values[-1])
    with reading(lab.engine) as connection:
        row = find_series(connection, run_id, "train_loss")
        assert row is not None
        assert math.isnan(row.last)
        assert row.nonfinite == int((~np.isfinite(values)).sum())
        curve = read_curves(connection, [row], 10, 0.5)[0]
        assert curve.points.steps[-1] == 40
        assert list_layer_outputs(connection, run_id)
        assert [view["id"] for view in list_runs(connection, RunQuery(sort="val_loss"))] == [run_id]


def test_a_run_is_paused_resumed_and_ends_as_if_never_interrupted(lab: Lab) -> None:
    whole = lab.train(tiny_config())
    run_id = lab.add(tiny_config())
    lab.train_until(run_id, 2)
    assert lab.run(run_id).status == Status.PAUSED
    with writing(lab.engine) as connection:
        queue.resume(connection, run_id)
    train_claimed(lab.claim(run_id), lab.settings)
    one, other = lab.points(run_id, "train_loss"), lab.points(whole, "train_loss")
    assert one.steps.tolist() == other.steps.tolist()
    assert one.values.tolist() == other.values.tolist()


def test_what_people_and_workers_do_works_as_on_sqlite(lab: Lab) -> None:
    with writing(lab.engine) as connection:
        assert queue.add_once(connection, tiny_config(), request_key="k") == (1, True)
        assert queue.add_once(connection, tiny_config(), request_key="k") == (1, False)
        labels.rename(connection, 1, "named")
        labels.annotate(connection, 1, "noted")
        assert finding.find(connection, "named") == 1
    claim = lab.claim(1)
    with writing(lab.engine) as connection:
        assert queue.report(connection, claim, step=3) == Asked.NOTHING
        connection.execute(update(workers).values(seen_at=database_now() - 100))
    liveness = Liveness(lab.engine, lab.settings.model_copy(update={"lease_seconds": 0.1}))
    assert liveness.look() == [], "only after a second look"
    time.sleep(0.1)
    assert liveness.look() == [1]
    with pytest.raises(ClaimLost), writing(lab.engine) as connection:
        queue.report(connection, claim, step=4)
    with writing(lab.engine) as connection:
        queue.ask(connection, 1, Asked.CANCEL)
        queue.remove(connection, 1)
    assert lab.events(1) == []
    assert lab.add(tiny_config()) == 2


def test_waiting_runs_are_put_in_order_and_held_back_as_on_sqlite(lab: Lab) -> None:
    one, two, three = (lab.add(tiny_config()) for _ in range(3))
    with writing(lab.engine) as connection:
        order.move(connection, three, 1)
        order.prioritise(connection, two, 5)
        assert [row.id for row in order.waiting_runs(connection)] == [two, one, three]
        connection.execute(update(workers).values(ended_at=None))
        order.pause_queue(connection, running_too=True)
        assert queue.claim(connection, lab.worker_id) is None
        order.resume_queue(connection)
    claim = lab.claim()
    assert claim.run_id == two
    with writing(lab.engine) as connection:
        queue.fail(connection, claim, Failure(Cause.DIVERGED, "the loss became NaN", {"step": 3}))
        labels.archive(connection, two)
        queue.retry(connection, two)
    assert lab.run(two).archived_at is None
    assert abs(lab.run(two).moved_at - time.time()) < 60


def test_racing_workers_never_claim_the_same_inquiry_and_leave_none(lab: Lab) -> None:
    with writing(lab.engine) as connection:
        numbers = [desk.add(connection, Preflight(config=tiny_config())) for _ in range(24)]
    claimed: list[int] = []
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        errand: Errand | None = Errand(0, 0, {}, "cpu", None)
        while errand is not None:
            with writing(lab.engine) as connection:
                errand = desk.claim(connection, lab.worker_id, alone=False)
            if errand is not None:
                claimed.append(errand.inquiry_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == numbers


def test_an_inquiry_is_answered_fenced_and_forgotten_as_on_sqlite(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "KEPT", 1)
    held = []
    for _ in range(3):
        with writing(lab.engine) as connection:
            desk.add(connection, Preflight(config=tiny_config()))
            held.append(desk.claim(connection, lab.worker_id, alone=False))
        errand = held[-1]
        assert errand is not None
        with writing(lab.engine) as connection:
            assert desk.report(connection, errand, 0.5, "a step", {"loss": math.nan})
            assert desk.find(connection, errand.inquiry_id).answer == {"loss": "NaN"}
            desk.conclude(connection, errand, {"far": -math.inf})
        with pytest.raises(ErrandLost), writing(lab.engine) as connection:
            desk.withdraw(connection, errand)
    with writing(lab.engine) as connection:
        desk.add(connection, Preflight(config=tiny_config()))
        errand = desk.claim(connection, lab.worker_id, alone=False)
        assert errand is not None
        desk.cancel(connection, errand.inquiry_id)
        connection.execute(update(workers).values(ended_at=database_now()))
        assert desk.has_orphans(connection)
        desk.give_back_orphans(connection)
        query = "SELECT id, status FROM inquiries ORDER BY id"
        rows = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert rows == [(3, "finished"), (4, "cancelled")]


def test_a_log_with_what_the_database_cannot_hold_is_kept_all_the_same(lab: Lab) -> None:
    claim = lab.claim(lab.add(tiny_config()))
    log = RunLog(lab.engine, claim)
    for piece in ("one\0two\n", "drei \N{SNOWMAN}\n"):
        log.add(piece)
        log.flush()
    with reading(lab.engine) as connection:
        chunks = read_log(connection, claim.run_id)
    assert [chunk.number for chunk in chunks] == [0, 1]
    assert "".join(chunk.text for chunk in chunks) == "one\N{REPLACEMENT CHARACTER}two\ndrei ☃\n"


def test_a_query_that_takes_too_long_is_given_up(lab: Lab) -> None:
    with (
        reading(lab.engine) as connection,
        pytest.raises(OperationalError, match=TOOK_TOO_LONG[1]),
        limited(connection, 0.1),
    ):
        connection.execute(text("SELECT pg_sleep(60)"))


def test_the_limit_is_that_of_one_transaction(lab: Lab) -> None:
    """Connections are used again: what waits for others, such as a worker, must not be cut off."""
    with reading(lab.engine) as connection, limited(connection, 0.1):
        number = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with reading(lab.engine) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == number
        connection.execute(text("SELECT pg_sleep(0.3)"))


def test_a_request_that_takes_too_long_is_told_so_and_the_next_is_answered(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(app: FastAPI) -> None:
        @app.get("/api/v1/slow")
        def read(connection: Reading) -> None:
            connection.execute(text("SELECT pg_sleep(60)"))

    run_id = lab.add(tiny_config())
    with client_of(lab.settings, slow) as client:
        monkeypatch.setattr(connections, "QUERY_SECONDS", 0.5)
        for _ in range(3):
            detail = refusal(client.get(f"{API}/slow"), 503)
            assert detail == "this took too long to read and was given up; ask for less at once"
        monkeypatch.setattr(connections, "QUERY_SECONDS", 30.0)
        assert client.get(f"{API}/runs/{run_id}").status_code == 200
