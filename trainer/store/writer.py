"""Writer: the one place that writes series, layer outputs and checkpoints of a run."""

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, bindparam, delete, insert, literal, select, update

from trainer.store.database import Number
from trainer.store.growing import Changes, GrowingSeries
from trainer.store.packing import Points
from trainer.store.reader import read_points
from trainer.store.summary import Summary
from trainer.store.tables import checkpoints, layer_outputs, series, series_chunks


class SeriesKey(NamedTuple):
    """A series of a run: its name, and the layer it speaks of ("" for the run itself)."""

    name: str
    layer: str = ""


UNITS = {"data_seconds": "s"}
"""Of series whose numbers have one."""


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """What one layer gave for the probe batch at one step, as bytes between low and high."""

    layer: str
    call: int
    step: int
    full_shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    levels: npt.NDArray[np.uint8]
    """What is kept, of its own shape: examples, channels, …"""
    view: str = "channels"

    @cached_property
    def payload(self) -> bytes:
        """As it is stored. Packing takes longer than the forward pass that gave it."""
        return zlib.compress(self.levels.tobytes(), 1)

    @property
    def row(self) -> Mapping[str, Any]:
        columns = ("layer", "call", "step", "full_shape", "dtype", "low", "high", "view", "payload")
        return {name: getattr(self, name) for name in columns} | {"shape": self.levels.shape}


class Writer:
    """Appends to the records of one run. Used by one thread at a time.

    Whether this process still may write the run is for the caller to check, in the same
    transaction and before.
    """

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.open: dict[SeriesKey, GrowingSeries] = {}

    def append(self, connection: Connection, columns: Mapping[SeriesKey, Points]) -> None:
        """Add points, all later than those there, to series; made where they are new."""
        columns = {key: points for key, points in columns.items() if len(points)}
        grown = [(self.opened(connection, key), points) for key, points in columns.items()]
        apply(connection, [growing.append(points) for growing, points in grown])
        summarise(connection, [growing for growing, _ in grown])

    def opened(self, connection: Connection, key: SeriesKey) -> GrowingSeries:
        if key not in self.open:
            named = {"name": key.name, "layer": key.layer, "unit": UNITS.get(key.name, "")}
            row = {"run_id": self.run_id, **named}
            result = connection.execute(insert(series).values(**row, **vars(Summary())))
            assert result.inserted_primary_key is not None
            self.open[key] = GrowingSeries(result.inserted_primary_key[0])
        return self.open[key]

    def add_layer_outputs(self, connection: Connection, outputs: Sequence[LayerOutput]) -> None:
        if outputs:
            rows = [{"run_id": self.run_id, **output.row} for output in outputs]
            connection.execute(insert(layer_outputs), rows)

    def add_checkpoint(
        self, connection: Connection, step: int, file: str, size: int, sha256: str
    ) -> None:
        connection.execute(delete(checkpoints).filter_by(run_id=self.run_id, step=step))
        connection.execute(
            insert(checkpoints).values(
                run_id=self.run_id,
                step=step,
                file=file,
                bytes=size,
                sha256=sha256,
                created_at=time.time(),
            )
        )

    def keep_checkpoints(self, connection: Connection, most: int) -> list[str]:
        """Forget all but the newest rows; the files that those which stay point to."""
        own = checkpoints.c.run_id == self.run_id
        newest = select(checkpoints).where(own).order_by(checkpoints.c.step.desc())
        rows = connection.execute(newest).all()
        if len(rows) > most:
            oldest = rows[most - 1].step
            connection.execute(delete(checkpoints).where(own, checkpoints.c.step < oldest))
        return [row.file for row in rows[:most]]

    def take_over(self, connection: Connection, run_id: int, step: int) -> None:
        """Begin with another run's series up to a step, and its checkpoint there."""
        for row in connection.execute(select(series).filter_by(run_id=run_id)).all():
            values = {**row._mapping, "run_id": self.run_id}
            del values["id"]
            result = connection.execute(insert(series).values(values))
            assert result.inserted_primary_key is not None
            copied = {c.name: c for c in series_chunks.c} | {
                "series_id": literal(result.inserted_primary_key[0], Number)
            }
            connection.execute(
                insert(series_chunks).from_select(
                    list(copied),
                    select(*copied.values()).where(series_chunks.c.series_id == row.id),
                )
            )
        row = connection.execute(select(checkpoints).filter_by(run_id=run_id, step=step)).one()
        self.add_checkpoint(connection, row.step, row.file, row.bytes, row.sha256)

    def rewind(self, connection: Connection, step: int) -> None:
        """Forget everything after `step`, and go on from there: what a resumed run begins with."""
        self.open.clear()
        connection.execute(
            delete(layer_outputs).where(
                layer_outputs.c.run_id == self.run_id, layer_outputs.c.step > step
            )
        )
        connection.execute(
            delete(checkpoints).where(
                checkpoints.c.run_id == self.run_id, checkpoints.c.step > step
            )
        )
        for row in connection.execute(select(series).filter_by(run_id=self.run_id)).all():
            kept = self.rewound(connection, row.id, step)
            if kept is None:
                connection.execute(delete(series).filter_by(id=row.id))
            else:
                self.open[SeriesKey(row.name, row.layer)] = kept
        summarise(connection, list(self.open.values()))

    def rewound(self, connection: Connection, series_id: int, step: int) -> GrowingSeries | None:
        """One series without its points after `step`, or None when nothing is left of it."""
        points = read_points(connection, series_id)
        points = points.until(step)
        if not len(points):
            return None
        growing, changes = GrowingSeries.holding(series_id, points)
        chunk = series_chunks.c
        connection.execute(
            delete(series_chunks).where(
                chunk.series_id == series_id, (chunk.level > 0) | (chunk.number >= growing.start)
            )
        )
        apply(connection, [changes])
        return growing

    def forget_checkpoints(self, connection: Connection, files: Sequence[str]) -> None:
        """Forget these, of a run that nobody trains; their files go once that is committed."""
        own = checkpoints.c.run_id == self.run_id
        connection.execute(delete(checkpoints).where(own, checkpoints.c.file.in_(files)))


def apply(connection: Connection, changes: Sequence[Changes]) -> None:
    """Delete and insert rows of chunks, of all series at once."""
    if gone := [place for change in changes for place in change.gone]:
        connection.execute(DELETE_CHUNK, gone)
    if rows := [row for change in changes for row in change.rows]:
        connection.execute(insert(series_chunks), rows)


def summarise(connection: Connection, grown: Sequence[GrowingSeries]) -> None:
    """Bring the rows of these series up to date."""
    if grown:
        summaries = [{"its_id": growing.id, **vars(growing.summary)} for growing in grown]
        connection.execute(UPDATE_SERIES, summaries)


DELETE_CHUNK = delete(series_chunks).where(
    *(series_chunks.c[name] == bindparam(name) for name in ("series_id", "level", "number"))
)
UPDATE_SERIES = update(series).where(series.c.id == bindparam("its_id"))
