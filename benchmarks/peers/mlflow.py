"""MLflow: its SQLite store, metrics in batches of a thousand as log_batch takes them."""

import time
from typing import Any

from peers.answer import answer, recorded


def recording(points: int) -> dict[str, Any]:
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
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


if __name__ == "__main__":
    answer("mlflow", recording=recording)
