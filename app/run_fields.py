"""Fields: those parts of runs that were asked for. Nothing else is read, parsed or spelled."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Text, select, type_coerce

from app.derived import DERIVED
from app.models import runs
from app.problems import Invalid, clipped
from app.run_view import METRIC, SHOWN, metrics_of
from trainer.config import RunConfig
from trainer.store.database import Document

Tree = dict[str, "Tree"]
"""The parts wanted of something, and of each of them its parts: all, where there are none."""

DOCUMENTS = frozenset(name for name in SHOWN if isinstance(runs.c[name].type, Document))
KNOWN = (*SHOWN, *DERIVED, "metrics")
ALL: Tree = {name: {} for name in KNOWN}


def wanted(fields: str) -> Tree:
    """The fields of a comma list, all if it is empty. Raises Invalid for one runs do not have."""
    if not fields:
        return ALL
    paths = [field.split(".") for field in fields.split(",")]
    if errors := [error for path in paths if (error := problem(path))]:
        raise Invalid(errors)
    return grown([["id"], *paths])


def grown(paths: Iterable[list[str]]) -> Tree:
    tree: Tree = {}
    # the longest first: whoever wants a part and the whole of it gets the whole
    for *above, last in sorted(paths, key=len, reverse=True):
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[last] = {}
    return tree


def problem(path: Sequence[str]) -> dict[str, Any] | None:
    """What is wrong with a field, for whoever asked for it."""
    field, (first, *below) = ".".join(path), path
    if first not in KNOWN:
        said = f"a run has no {clipped(field)!r}; it has {', '.join(KNOWN)}"
    elif not below:
        return None
    elif first not in DOCUMENTS and first != "metrics":
        said = f"{first} has no parts; ask for it as it is"
    elif not all(below):
        said = f"{clipped(field)!r} lacks a name; write config.seed or metrics.val_loss.last"
    elif first == "config" and below[0] not in RunConfig.model_fields:
        said = f"a config has no {clipped(below[0])!r}; it has {', '.join(RunConfig.model_fields)}"
    elif first == "metrics" and below[1:] and (len(below) > 2 or below[1] not in METRIC):
        rest = clipped(".".join(below[1:]))
        said = f"a metric has no {rest!r}; it has {', '.join(METRIC)}"
    else:
        return None
    return {"field": "fields", "message": said, "given": clipped(field)}


def read_fields(connection: Connection, ids: Sequence[int], tree: Tree) -> list[dict[str, Any]]:
    """What is wanted of these runs, in this order, without those that are gone."""
    metrics = metrics_wanted(connection, ids, tree["metrics"]) if "metrics" in tree else {}
    query = select(*(column(name) for name in columns_for(tree))).where(runs.c.id.in_(ids))
    found = {row.id: parts(row, tree, metrics) for row in connection.execute(query).all()}
    return [found[run_id] for run_id in ids if run_id in found]


def columns_for(tree: Tree) -> list[str]:
    needed = {name for key in tree if key in DERIVED for name in DERIVED[key].columns}
    return [name for name in tuple(runs.c.keys()) if name in needed or name in tree]


def column(name: str) -> Any:
    return type_coerce(runs.c[name], Text).label(name) if name in DOCUMENTS else runs.c[name]


def metrics_wanted(
    connection: Connection, ids: Sequence[int], tree: Tree
) -> Mapping[int, Mapping[str, Any]]:
    asked = {key for below in tree.values() for key in below or METRIC} or METRIC
    keys = [key for key in METRIC if key in asked]
    found = metrics_of(connection, ids, names=list(tree), keys=keys)
    if all(len(below) in (0, len(keys)) for below in tree.values()):
        return found
    return {run_id: picked(own, tree) for run_id, own in found.items()}


def parts(row: Row[Any], tree: Tree, metrics: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """A run with what is wanted of it and no more."""
    values, inside = dict(zip(row._fields, row, strict=True)), Inside(row)
    made: dict[str, Any] = {}
    for name, below in tree.items():
        if name in DERIVED:
            made[name] = DERIVED[name].of(inside)
        elif name in DOCUMENTS:
            made[name] = document(values[name], below)
        elif name != "metrics":
            made[name] = values[name]
        else:
            made[name] = metrics.get(row.id, {})
    return made


class Inside:
    """A row whose documents are parsed where somebody looks inside them."""

    def __init__(self, row: Row[Any]) -> None:
        self.row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self.row, name)

    @cached_property
    def config(self) -> Any:
        return orjson.loads(self.row.config)

    @cached_property
    def result(self) -> Any:
        return orjson.loads(self.row.result or "null")


def document(text: str | None, tree: Tree) -> Any:
    """A stored document for an answer: as it stands there, or the parts of it that are wanted."""
    if text is None:
        return None
    return picked(orjson.loads(text), tree) if tree else orjson.Fragment(text)


def picked(content: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """The parts of a document that are wanted and there."""
    return {
        name: picked(content[name], below) if below else content[name]
        for name, below in tree.items()
        if name in content and (not below or isinstance(content[name], dict))
    }
