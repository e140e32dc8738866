"""/workers: who trains."""

from fastapi import APIRouter, Response

from app.api import shapes
from app.api.answers import JsonResponse
from app.connections import Reading, TheSettings
from app.worker_view import list_workers

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("", operation_id="list_workers", response_model=shapes.Workers)
def list_(connection: Reading, settings: TheSettings) -> Response:
    """Workers that have not ended, and the run each has in hand."""
    return JsonResponse({"workers": list_workers(connection, settings.lease_seconds)})
