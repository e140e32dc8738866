"""Remove: a run with all it recorded, in the database and on the disk."""

import shutil
from pathlib import Path

from fastapi import BackgroundTasks
from sqlalchemy import Connection

from app import queue
from app.settings import Settings


def remove_run(
    connection: Connection, settings: Settings, run_id: int, afterwards: BackgroundTasks
) -> None:
    """Delete a run. Refused while it trains.

    Its files go once the transaction is through: a change that is taken back loses nothing.
    """
    queue.remove(connection, run_id)
    afterwards.add_task(remove_folder, settings.run_folder(run_id))


def remove_folder(folder: Path) -> None:
    # numbers are never given twice, so what stays behind can never be taken for another run's
    shutil.rmtree(folder, ignore_errors=True)
