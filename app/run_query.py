"""RunQuery: which runs a list shows, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, Text, and_, false, func, or_, select, type_coerce
from sqlalchemy.sql.elements import ColumnElement

from app.models import Status, runs
from trainer.store.tables import OF_RUNS, series

SORTS = {
    "number": runs.c.id,
    "name": runs.c.name,
    "status": runs.c.status,
    "recipe": runs.c.recipe,
    "seconds": runs.c.train_seconds,
    "val_accuracy": None,
    "val_loss": None,
}
"""Columns a list can be sorted by; None is the last value of the metric of that name."""

Sort = Literal["number", "name", "status", "recipe", "seconds", "val_accuracy", "val_loss"]


@dataclass(frozen=True)
class Position:
    """A run's place in a sorted list: the value it is sorted by (None: it has none), its number."""

    value: str | float | None
    run_id: int


FEW = 500
"""Runs that are sorted sooner than an index is followed to them."""


@dataclass(frozen=True)
class RunQuery:
    """Which runs, in which order."""

    status: Status | None = None
    text: str = ""
    sort: Sort = "number"
    descending: bool = True
    limit: int = 50
    offset: int = 0
    after: Position | None = None
    """Only runs that come later in the order: where the next page begins."""
    archived: bool = False
    """Those put away, instead of the others."""

    def conditions(self) -> list[ColumnElement[bool]]:
        put_away = runs.c.archived_at.is_not(None)
        wanted: list[ColumnElement[bool]] = [put_away if self.archived else ~put_away]
        if self.status:
            wanted.append(runs.c.status == self.status)
        return wanted + [mentions(word) for word in self.text.split()]

    def places(self, connection: Connection) -> Sequence[Row[int, Any]]:
        """The numbers of the runs in their order, and by which value each stands there.

        Sorting ten thousand rows with all they hold would take most of an answer.
        """
        column = SORTS[self.sort]
        if column is None:
            return self.places_by_metric(connection)
        query = self.ordered(select(runs.c.id, column).where(*self.conditions()), column)
        return connection.execute(query.limit(self.limit).offset(self.offset)).all()

    def places_by_metric(self, connection: Connection) -> Sequence[Row[int, Any]]:
        """Runs with the metric in the order of its index, then those without by their numbers.

        In one statement the metric of every run would be looked up before the first is known.
        """
        last, limit, offset = series.c.last, self.limit, self.offset
        metric = and_(series.c.run_id == runs.c.id, OF_RUNS, series.c.name == self.sort)
        every = select(runs.c.id, last).select_from(runs.outerjoin(series, metric))
        # the index would lead past every run, to look for the words in each
        if self.text and len(few := self.first(connection, FEW + 1)) <= FEW:
            return self.sorted(connection.execute(every.where(runs.c.id.in_(few))).all())
        having: Select[int, Any] = select(runs.c.id, last).select_from(runs.join(series, metric))
        having = self.ordered(having.where(last.is_not(None), *self.conditions()), last)
        found = connection.execute(having.limit(limit).offset(offset)).all()
        if len(found) == limit:
            return found
        others = every.where(last.is_(None), *self.conditions())
        if self.after is not None and self.after.value is None:
            others = others.where(runs.c.id > self.after.run_id)
        skipped = 0 if found or not offset else max(0, offset - count(connection, having))
        others = others.order_by(runs.c.id).limit(limit - len(found)).offset(skipped)
        return [*found, *connection.execute(others).all()]

    def first(self, connection: Connection, most: int) -> Sequence[int]:
        """Numbers of runs, in no order."""
        chosen = select(runs.c.id).where(*self.conditions()).limit(most)
        return connection.execute(chosen).scalars().all()

    def sorted(self, rows: Sequence[Row[int, Any]]) -> Sequence[Row[int, Any]]:
        """The page out of all rows of numbers and values."""

        def place(position: Position) -> tuple[bool, Any, int]:
            value: Any = 0 if position.value is None else position.value
            return position.value is None, -value if self.descending else value, position.run_id

        order = sorted((place(self.position(row)), row) for row in rows)
        later = [row for at, row in order if self.after is None or at > place(self.after)]
        return later[self.offset : self.offset + self.limit]

    def ordered(self, query: Select[int, Any], column: ColumnElement[Any]) -> Select[int, Any]:
        """What of a query comes after the position, by a column that all of it has."""
        if self.after is not None:
            query = query.where(self.follows(column, self.after))
        return query.order_by(column.desc() if self.descending else column.asc(), runs.c.id)

    def follows(self, column: ColumnElement[Any], position: Position) -> ColumnElement[bool]:
        value = position.value
        if value is None:
            return false()
        beyond = column < value if self.descending else column > value
        return or_(beyond, and_(column == value, runs.c.id > position.run_id))

    @staticmethod
    def position(place: Row[int, Any]) -> Position:
        """Where a run stands in the order, by its row of `places`."""
        run_id, value = place
        return Position(None if value != value else value, run_id)


def mentions(word: str) -> ColumnElement[bool]:
    """Whether a word is in a run's name, recipe or note, or begins the name of a config's part."""
    config = type_coerce(runs.c.config, Text)
    return or_(
        *(c.icontains(word, autoescape=True) for c in (runs.c.name, runs.c.recipe, runs.c.note)),
        config.icontains(f'"name": "{word}', autoescape=True),
    )


def count_runs(connection: Connection, query: RunQuery) -> int:
    """How many runs a query has on all its pages."""
    return count(connection, select(runs.c.id).where(*query.conditions()))


def count(connection: Connection, query: Select[*tuple[Any, ...]]) -> int:
    rows = select(func.count()).select_from(query.order_by(None).subquery())
    return connection.execute(rows).scalar_one()
