"""Writer: the one place that writes series, layer outputs and checkpoints of a run."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, delete, insert, literal, select, update

from trainer.store.database import Number
from trainer.store.packing import NO_POINTS, Points, pack, unpack
from trainer.store.tables import checkpoints, layer_outputs, series, series_chunks

CHUNK = 4096


class SeriesKey(NamedTuple):
    """A series of a run: its name, and the layer it speaks of ("" for the run itself)."""

    name: str
    layer: str = ""


@dataclass(frozen=True)
class LayerOutput:
    """What one layer gave for the probe batch at one step, as bytes between low and high."""

    layer: str
    call: int
    step: int
    shape: tuple[int, ...]
    full_shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    payload: bytes
    view: str = "channels"


@dataclass
class Summary:
    """All that tables, sorting and filters need to know of a series."""

    points: int = 0
    nonfinite: int = 0
    first_step: int = 0
    last_step: int = 0
    first: float = math.nan
    last: float = math.nan
    lowest: float = math.nan
    lowest_step: int = 0
    highest: float = math.nan
    highest_step: int = 0
    total: float = 0.0

    def add(self, points: Points) -> None:
        """Take in points that follow those before."""
        if not self.points:
            self.first_step, self.first = int(points.steps[0]), float(points.values[0])
        self.last_step, self.last = int(points.steps[-1]), float(points.values[-1])
        self.points += len(points)
        finite = np.isfinite(points.values)
        self.nonfinite += int((~finite).sum())
        if not finite.any():
            return
        steps, values = points.steps[finite], points.values[finite]
        low, high = int(values.argmin()), int(values.argmax())
        # written so that a NaN, which stands for "none yet", gives way
        if not self.lowest <= values[low]:
            self.lowest, self.lowest_step = float(values[low]), int(steps[low])
        if not self.highest >= values[high]:
            self.highest, self.highest_step = float(values[high]), int(steps[high])
        self.total += float(values.sum())


@dataclass
class OpenSeries:
    """A series that is being written: its row, its summary, and its last, unfinished chunk."""

    id: int
    summary: Summary
    number: int
    tail: Points = field(default_factory=lambda: NO_POINTS)
    tail_is_stored: bool = False


class Writer:
    """Appends to the records of one run. Used by one thread at a time.

    Whether this process still may write the run is for the caller to check, in the same
    transaction and before.
    """

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.open: dict[SeriesKey, OpenSeries] = {}

    def append(
        self, connection: Connection, key: SeriesKey, points: Points, unit: str = ""
    ) -> None:
        """Add points, all later than those there, to a series; made when it is new."""
        if not len(points):
            return
        target = self.opened(connection, key, unit)
        target.summary.add(points)
        target.tail = Points.joined([target.tail, points])
        while len(target.tail) >= CHUNK:
            self.store_chunk(connection, target, target.tail[:CHUNK])
            target.tail, target.tail_is_stored = target.tail[CHUNK:], False
            target.number += 1
        if len(target.tail):
            self.store_chunk(connection, target, target.tail)
            target.tail_is_stored = True
        connection.execute(
            update(series).where(series.c.id == target.id).values(**vars(target.summary))
        )

    def opened(self, connection: Connection, key: SeriesKey, unit: str) -> OpenSeries:
        if key not in self.open:
            row = {"run_id": self.run_id, "name": key.name, "layer": key.layer, "unit": unit}
            result = connection.execute(insert(series).values(**row, **vars(Summary())))
            assert result.inserted_primary_key is not None
            self.open[key] = OpenSeries(result.inserted_primary_key[0], Summary(), 0)
        return self.open[key]

    def store_chunk(self, connection: Connection, target: OpenSeries, points: Points) -> None:
        """Write the series' last chunk, over its shorter form where that is stored already."""
        summary = Summary()
        summary.add(points)
        values = {
            "points": len(points),
            "first_step": summary.first_step,
            "last_step": summary.last_step,
            "lowest": summary.lowest,
            "highest": summary.highest,
            "total": summary.total,
            "payload": pack(points),
        }
        place = {"series_id": target.id, "level": 0, "number": target.number}
        if target.tail_is_stored:
            connection.execute(update(series_chunks).filter_by(**place).values(**values))
        else:
            connection.execute(insert(series_chunks).values(**place, **values))

    def add_layer_outputs(self, connection: Connection, outputs: Sequence[LayerOutput]) -> None:
        if outputs:
            rows: list[Mapping[str, Any]] = [{"run_id": self.run_id, **vars(o)} for o in outputs]
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
                connection.execute(update(series).filter_by(id=row.id).values(**vars(kept.summary)))

    def rewound(self, connection: Connection, series_id: int, step: int) -> OpenSeries | None:
        """One series without its points after `step`, or None when nothing is left of it."""
        chunk = series_chunks.c
        raw = (chunk.series_id == series_id) & (chunk.level == 0)
        rows = connection.execute(
            select(chunk.number, chunk.payload).where(raw).order_by(chunk.number)
        ).all()
        summary, tail, number = Summary(), NO_POINTS, 0
        for row in rows:
            points = unpack(row.payload)
            points = points[: int(np.searchsorted(points.steps, step, side="right"))]
            if len(points):
                summary.add(points)
                tail, number = points, row.number
        connection.execute(delete(series_chunks).where(raw, chunk.number >= number))
        if not summary.points:
            return None
        target = OpenSeries(series_id, summary, number)
        self.store_chunk(connection, target, tail)
        if len(tail) == CHUNK:
            target.number += 1
        else:
            target.tail, target.tail_is_stored = tail, True
        return target

    def forget_checkpoints(self, connection: Connection, files: Sequence[str]) -> None:
        """Forget these, of a run that nobody trains; their files go once that is committed."""
        own = checkpoints.c.run_id == self.run_id
        connection.execute(delete(checkpoints).where(own, checkpoints.c.file.in_(files)))
