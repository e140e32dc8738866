"""RunView: runs as pages, the API and the command line show them, read with two queries."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, Text, and_, func, or_, select, type_coerce
from sqlalchemy.sql.elements import ColumnElement

from app import finding
from app.derived import DERIVED
from app.missing import RunMissing
from app.models import Status, runs
from trainer.store.database import Finite, Number, Seconds
from trainer.store.tables import series

Metrics = Mapping[str, Mapping[str, Any]]

SUMMARY_FROM = 2
"""Behind its own number and that of its run come the columns of a series that are shown."""
SUMMARY = tuple(series.c.keys())[SUMMARY_FROM:]

VALUES = ("first", "last", "lowest", "highest")
METRIC = ("points", "nonfinite", "last_step", "lowest_step", "highest_step", *VALUES)
"""What a run shows of each of its metrics: a list of runs has thousands of them."""

INTERNAL = ("fence", "request_key", "tries", "place")
SHOWN = tuple(key for key in tuple(runs.c.keys()) if key not in INTERNAL)

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

    def places(self) -> Select[Any]:
        """The numbers of the runs in their order, and by which value each stands there.

        Sorting ten thousand rows with all they hold would take most of an answer.
        """
        query, column = select(runs.c.id), SORTS[self.sort]
        if column is None:
            metric = and_(
                series.c.run_id == runs.c.id, series.c.layer == "", series.c.name == self.sort
            )
            query, column = query.outerjoin(series, metric), series.c.last
        if self.after is not None:
            query = query.where(self.follows(column, self.after))
        # runs without the metric come last, whichever way the others are sorted
        last = [column.is_(None)] if column.nullable else []
        order = (*last, column.desc() if self.descending else column.asc(), runs.c.id)
        query = query.add_columns(column).where(*self.conditions()).order_by(*order)
        return query.limit(self.limit).offset(self.offset)

    def follows(self, column: ColumnElement[Any], position: Position) -> ColumnElement[bool]:
        """What comes after a position in the order of `places`."""
        later = runs.c.id > position.run_id
        if position.value is None:
            return and_(column.is_(None), later)
        value = position.value
        beyond = column < value if self.descending else column > value
        return or_(beyond, and_(column == value, later), column.is_(None))

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


def list_runs(connection: Connection, query: RunQuery) -> list[dict[str, Any]]:
    """The runs of a query, each as `view` gives it."""
    ids = connection.execute(query.places()).scalars().all()
    found = views(connection, ids)
    # elsewhere than in SQLite one may have been deleted since
    return [found[run_id] for run_id in ids if run_id in found]


def count_runs(connection: Connection, query: RunQuery) -> int:
    """How many runs a query has on all its pages."""
    counted = select(func.count()).select_from(runs).where(*query.conditions())
    return connection.execute(counted).scalar_one()


def find_run(connection: Connection, reference: str) -> dict[str, Any]:
    """One run by number or name. Raises RunMissing."""
    return runs_by_id(connection, [finding.find(connection, reference)])[0]


def runs_by_id(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """These runs, in this order. Raises RunMissing for the first that is not there."""
    found = views(connection, ids)
    for run_id in ids:
        if run_id not in found:
            raise RunMissing(run_id)
    return [found[run_id] for run_id in ids]


def views(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Those of these runs that are there, each as `view` gives it, by number."""
    metrics = metrics_of(connection, ids)
    rows = connection.execute(select(runs).where(runs.c.id.in_(ids))).all()
    return {row.id: view(row, metrics.get(row.id, {})) for row in rows}


def metrics_of(
    connection: Connection,
    ids: Sequence[int],
    names: Sequence[str] = (),
    keys: Sequence[str] = METRIC,
) -> dict[int, dict[str, Any]]:
    """What is shown of the metrics of these runs: run -> name -> its summary; all without names."""
    # as numbers and None: for one kind of column a call for each value would take half of an answer
    columns = [type_coerce(series.c[key], Seconds if key in VALUES else Number) for key in keys]
    query = select(series.c.run_id, series.c.name, series.c.nonfinite, *columns)
    query = query.where(series.c.run_id.in_(ids), series.c.layer == "")
    if names:
        query = query.where(series.c.name.in_(names))
    ordered = query.order_by(series.c.run_id, series.c.layer, series.c.name)
    metrics: dict[int, dict[str, Any]] = defaultdict(dict)
    odd = set()
    for run_id, name, nonfinite, *values in connection.execute(ordered).all():
        if nonfinite:
            odd.add(run_id)
            values = [math.nan if value is None else value for value in values]
        metrics[run_id][name] = dict(zip(keys, values, strict=True))
    return {id_: own if id_ in odd else Finite(own) for id_, own in metrics.items()}


def summary(row: Row[Any]) -> dict[str, Any]:
    """A series without its points."""
    # by place: thousands of these make a page
    return dict(zip(SUMMARY, row[SUMMARY_FROM:], strict=True))


def view(row: Row[Any], metrics: Metrics) -> dict[str, Any]:
    """A run as everybody shows it: its row, what follows from it, and its metrics."""
    values = row._mapping
    return {
        **{key: values[key] for key in SHOWN},
        **{key: derived.of(row) for key, derived in DERIVED.items()},
        "metrics": metrics,
    }
