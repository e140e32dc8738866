"""TrickUse: which runs have which tricks, and how often each is used in this lab."""

from collections import Counter
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from app.models import runs
from app.run_view import runs_by_id


def use_counts(connection: Connection) -> Counter[str]:
    """How many runs have each trick, those put away included."""
    combined = select(runs.c.trick_names, func.count()).group_by(runs.c.trick_names)
    counts: Counter[str] = Counter()
    for names, count in connection.execute(combined).all():
        # few combinations, however many runs
        for name in names.split():
            counts[name] += count
    return counts


def has_trick(name: str) -> ColumnElement[bool]:
    """Whether a run has the trick of that name."""
    return runs.c.trick_names.contains(f" {name} ", autoescape=True)


def newest_with(connection: Connection, name: str, most: int) -> list[dict[str, Any]]:
    """The newest runs that have a trick."""
    query = select(runs.c.id).where(has_trick(name)).order_by(runs.c.id.desc()).limit(most)
    return runs_by_id(connection, list(connection.execute(query).scalars()))
