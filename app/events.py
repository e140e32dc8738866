"""Events: every transition and notable moment of a run: who, when, why."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from app.access.roles import ANYBODY, actor
from app.models import run_events
from trainer.store.database_clock import database_now

PERSON = ANYBODY.name
"""Somebody nobody asked who they are."""
QUEUE = "queue"


def person() -> str:
    """Who does what is being done, as they are called here."""
    return actor.get().name


def note_event(connection: Connection, run_id: int, kind: str, by: str, text: str = "") -> None:
    """Write down what happened to a run, in the transaction in which it happens."""
    connection.execute(
        insert(run_events).values(run_id=run_id, at=database_now(), kind=kind, by=by, text=text)
    )


def events_of(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    """Every event of a run, oldest first."""
    query = select(run_events).where(run_events.c.run_id == run_id)
    return connection.execute(query.order_by(run_events.c.id)).all()
