"""TrickUse: which runs have which tricks, and how often each is used in this lab."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from app.models import runs
from trainer.config import RunConfig


def trick_names(config: RunConfig) -> str:
    """The names of its tricks with a space around each, so that one can be searched for."""
    return " ".join(["", *(trick.name for trick in config.tricks), ""]) if config.tricks else ""


def has_trick(name: str) -> ColumnElement[bool]:
    """Whether a run has the trick of that name."""
    return runs.c.trick_names.contains(f" {name} ", autoescape=True)


def use_counts(connection: Connection) -> Counter[str]:
    """How many runs have each trick, those put away included."""
    combined = select(runs.c.trick_names, func.count()).group_by(runs.c.trick_names)
    counts: Counter[str] = Counter()
    for names, count in connection.execute(combined).all():
        # few combinations, however many runs
        for name in names.split():
            counts[name] += count
    return counts


def newest_with(connection: Connection, name: str, most: int) -> Sequence[int]:
    """Numbers of the newest runs that have a trick."""
    query = select(runs.c.id).where(has_trick(name)).order_by(runs.c.id.desc()).limit(most)
    return connection.execute(query).scalars().all()
