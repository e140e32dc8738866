"""Finding: a run by its number or name, or RunMissing."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from app.missing import RunMissing
from app.models import runs


def must_exist(connection: Connection, run_id: int) -> Row[Any]:
    run = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
    if run is None:
        raise RunMissing(run_id)
    return run


def find(connection: Connection, reference: str) -> int:
    """The number of a run given by number or by name. Raises RunMissing."""
    by_number = reference.isdecimal() and len(reference) < 19
    wanted = runs.c.id == int(reference) if by_number else runs.c.name == reference
    run_id = connection.execute(select(runs.c.id).where(wanted)).scalar_one_or_none()
    if run_id is None:
        raise RunMissing(reference)
    return int(run_id)


def attempts_of(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """How often each of these runs was begun. Raises RunMissing for the first not there."""
    rows = connection.execute(select(runs.c.id, runs.c.attempt).where(runs.c.id.in_(ids)))
    attempts = {row.id: row.attempt for row in rows}
    for run_id in ids:
        if run_id not in attempts:
            raise RunMissing(run_id)
    return attempts
