"""/workers: who trains."""

from fastapi import APIRouter, Response
from sqlalchemy import select

from app import queue
from app.api import shapes
from app.api.answers import JsonResponse
from app.connections import Reading, TheSettings
from app.models import Status, runs, workers

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("", operation_id="list_workers", response_model=shapes.Workers)
def list_(connection: Reading, settings: TheSettings) -> Response:
    """Workers that have not ended, and the run each has in hand."""
    running = select(runs.c.worker_id, runs.c.id).where(runs.c.status == Status.RUNNING)
    in_hand = {row.worker_id: row.id for row in connection.execute(running)}
    rows = connection.execute(select(workers).where(workers.c.ended_at.is_(None))).all()
    alive_since = queue.now() - settings.lease_seconds
    return JsonResponse(
        {
            "workers": [
                {
                    **row._mapping,
                    "is_alive": row.seen_at >= alive_since,
                    "run": in_hand.get(row.id),
                }
                for row in rows
            ]
        }
    )
