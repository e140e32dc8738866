"""RunView: runs as pages, the API and the command line show them, read with two queries."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, type_coerce

from app import finding
from app.derived import DERIVED
from app.missing import RunMissing
from app.models import runs
from app.run_query import RunQuery
from trainer.store.database import Finite, Number, Seconds
from trainer.store.tables import series

Metrics = Mapping[str, Mapping[str, Any]]

SUMMARY_FROM = 2
"""Behind its own number and that of its run come the columns of a series that are shown."""
SUMMARY = tuple(series.c.keys())[SUMMARY_FROM:]

VALUES = ("first", "last", "lowest", "highest")
METRIC = ("points", "nonfinite", "last_step", "lowest_step", "highest_step", *VALUES)
"""What a run shows of each of its metrics: a list of runs has thousands of them."""

INTERNAL = ("fence", "request_key", "tries", "place", "trick_names")
SHOWN = tuple(key for key in tuple(runs.c.keys()) if key not in INTERNAL)


def list_runs(connection: Connection, query: RunQuery) -> list[dict[str, Any]]:
    """The runs of a query, each as `view` gives it."""
    ids = [run_id for run_id, _ in query.places(connection)]
    found = views(connection, ids)
    # elsewhere than in SQLite one may have been deleted since
    return [found[run_id] for run_id in ids if run_id in found]


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
    for row in connection.execute(ordered).all():
        # by place: taken apart, thousands of rows take half as long again
        run_id, values = row[0], row[3:]
        if row[2]:
            odd.add(run_id)
            values = tuple(math.nan if value is None else value for value in values)
        metrics[run_id][row[1]] = dict(zip(keys, values, strict=True))
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
