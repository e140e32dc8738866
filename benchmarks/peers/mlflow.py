"""MLflow: its SQLite store; metrics in batches of a thousand, read and listed from its server."""

import random
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from peers.answer import answer, recorded
from peers.serving import fetch, milliseconds, served

STORE = "sqlite:///mlflow.db"
COMMAND = ("mlflow", "server", "--backend-store-uri", STORE, "--port", "PORT")
PARAMETERS = METRICS = 20


def recording(points: int) -> dict[str, Any]:
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(STORE)
    run = mlflow.start_run()
    client, waiting = mlflow.MlflowClient(), []

    def write() -> None:
        client.log_batch(run.info.run_id, metrics=waiting)
        waiting.clear()

    def record(step: int, value: float) -> None:
        waiting.append(Metric("loss", value, int(1000 * time.time()), step))
        if len(waiting) == 1000:
            write()

    def close() -> None:
        if waiting:
            write()
        mlflow.end_run()

    return recorded(points, record, close)


# -- listing --------------------------------------------------------------------------------


def listing(runs: int, shown: int, times: int) -> dict[str, Any]:
    first = one_run({f"metric_{number}": 0.5 for number in range(METRICS)})
    copy_run(first, runs - 1)
    asked = {
        "latest": {},
        "sorted by a metric": {"order_by": ["metrics.metric_0 DESC"]},
        "filtered and sorted": {
            "filter": "params.parameter_0 = '0' AND attributes.status = 'FINISHED'",
            "order_by": ["metrics.metric_1 ASC"],
        },
    }
    with served(COMMAND, "/health") as address:
        search = f"{address}/api/2.0/mlflow/runs/search"
        common = {"experiment_ids": ["0"], "max_results": shown}
        return {
            name: milliseconds(lambda more=more: fetch(search, {**common, **more}), times)
            for name, more in asked.items()
        }


def one_run(metrics: dict[str, float]) -> str:
    import mlflow

    mlflow.set_tracking_uri(STORE)
    with mlflow.start_run() as run:
        mlflow.log_params({f"parameter_{number}": number for number in range(PARAMETERS)})
        mlflow.log_metrics(metrics)
    return run.info.run_id


def copy_run(run_id: str, count: int) -> None:
    """More runs of the same rows, with other values of metrics: its client takes 50 ms for each."""
    connection = sqlite3.connect("mlflow.db")
    connection.create_function("chance", 0, random.random)
    ids = [uuid.uuid4().hex for _ in range(count)]
    for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        chosen = ", ".join(changed(column, table) for column in columns)
        connection.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {chosen} FROM {table} WHERE run_uuid = ?",
            [(new, run_id) for new in ids],
        )
    connection.commit()
    connection.close()


def changed(column: str, table: str) -> str:
    if column == "run_uuid":
        return "?"
    return "chance()" if column == "value" and table == "latest_metrics" else column


# -- reading --------------------------------------------------------------------------------


def reading(series: Mapping[str, Sequence[int]], points: int, times: int) -> dict[str, Any]:
    """Of series of these lengths, as one answer for each title."""
    run_ids = {title: [filled(length) for length in lengths] for title, lengths in series.items()}

    def ask(address: str, ids: Sequence[str]) -> bytes:
        asked = [("run_ids", run_id) for run_id in ids]
        asked += [("metric_key", "loss"), ("max_results", str(points))]
        path = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
        return fetch(f"{address}{path}?{urlencode(asked)}")

    with served(COMMAND, "/health") as address:
        return {
            title: milliseconds(lambda ids=ids: ask(address, ids), times)
            for title, ids in run_ids.items()
        }


def filled(length: int) -> str:
    """A run with so many points, written past its client, which writes 10,000 a second."""
    run_id = one_run({"loss": 0.5})
    connection = sqlite3.connect("mlflow.db")
    connection.execute("DELETE FROM metrics WHERE run_uuid = ?", (run_id,))
    rows = ((run_id, step, random.random(), step) for step in range(length))
    connection.executemany(
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
        "SELECT 'loss', ?3, ?4, ?1, ?2, 0",
        rows,
    )
    connection.commit()
    connection.close()
    return run_id


if __name__ == "__main__":
    answer("mlflow", recording=recording, listing=listing, reading=reading)
