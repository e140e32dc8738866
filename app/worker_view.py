"""WorkerView: workers as pages, the API and the command line show them."""

from typing import Any

from sqlalchemy import Connection, func, select

from app.models import Status, runs, workers
from trainer.store.database_clock import database_now

SECRET = ("token",)


def list_workers(connection: Connection, lease_seconds: float) -> list[dict[str, Any]]:
    """Workers that have not ended, whether each gave a sign lately, and the run it has in hand."""
    running = select(runs.c.worker_id, runs.c.id).where(runs.c.status == Status.RUNNING)
    in_hand = {row.worker_id: row.id for row in connection.execute(running)}
    silence = (database_now() - workers.c.seen_at).label("silence")
    query = select(workers, silence).where(workers.c.ended_at.is_(None)).order_by(workers.c.id)
    return [
        {
            **{key: row._mapping[key] for key in workers.c.keys() if key not in SECRET},  # noqa: SIM118
            "silent_seconds": max(0.0, row.silence),
            "is_alive": abs(row.silence) <= lease_seconds,
            "run": in_hand.get(row.id),
        }
        for row in connection.execute(query)
    ]


def count_alive(connection: Connection, lease_seconds: float) -> int:
    """How many workers gave a sign of life lately."""
    silence = database_now() - workers.c.seen_at
    alive = workers.c.ended_at.is_(None) & (silence.between(-lease_seconds, lease_seconds))
    return connection.execute(select(func.count()).where(alive)).scalar_one()
