"""Audit: who changed, or tried to change, what, and when."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from app.models import audit
from trainer.store.database_clock import database_now

KEPT = 100_000
PRUNED_EVERY = 1000
LONGEST_PATH = 500


def note(
    connection: Connection,
    *,
    who: str,
    role: str,
    address: str,
    method: str,
    path: str,
    status: int,
) -> None:
    """Write one line, and now and then forget the oldest beyond a hundred thousand."""
    line = {"who": who, "role": role, "address": address, "method": method, "status": status}
    # a path may hold half of a letter, which no database takes
    storable = path[:LONGEST_PATH].encode("utf-8", "replace").decode()
    result = connection.execute(
        insert(audit).values(**line, path=storable.replace("\0", "�"), at=database_now())
    )
    assert result.inserted_primary_key is not None
    number = int(result.inserted_primary_key[0])
    if number % PRUNED_EVERY == 0:
        connection.execute(delete(audit).where(audit.c.id <= number - KEPT))


def lines(
    connection: Connection, limit: int = 100, before: int | None = None, who: str = ""
) -> Sequence[Row[Any]]:
    """Lines of the log, the newest first; those before a number, and of one name, where given."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if who:
        query = query.where(audit.c.who == who)
    return connection.execute(query).all()
