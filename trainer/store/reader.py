"""Reader: what pages and the API ask of the records of runs."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, func, select

from trainer.store.packing import Points, unpack
from trainer.store.tables import checkpoints, layer_outputs, log_chunks, series, series_chunks


def list_series(
    connection: Connection, run_ids: Sequence[int], *, layers: bool = False
) -> Sequence[Row[Any]]:
    """The series of these runs with their summaries, by name; layer statistics only on request."""
    wanted = series.c.layer != "" if layers else series.c.layer == ""
    query = select(series).where(series.c.run_id.in_(run_ids), wanted)
    return connection.execute(query.order_by(series.c.name, series.c.run_id)).all()


def choose_series(
    connection: Connection, run_ids: Sequence[int], names: Sequence[str], layer: str = ""
) -> Sequence[Row[Any]]:
    """The series of these runs with these names, all where there are none, by name."""
    query = select(series).where(series.c.run_id.in_(run_ids), series.c.layer == layer)
    if names:
        query = query.where(series.c.name.in_(names))
    return connection.execute(query.order_by(series.c.name, series.c.run_id)).all()


def find_series(connection: Connection, run_id: int, name: str, layer: str = "") -> Row[Any] | None:
    query = select(series).filter_by(run_id=run_id, name=name, layer=layer)
    return connection.execute(query).one_or_none()


def read_points(connection: Connection, series_id: int, after: int | None = None) -> Points:
    """Every point of a series, or every one whose step is greater than `after`."""
    chunk = series_chunks.c
    query = select(chunk.payload).where(chunk.series_id == series_id, chunk.level == 0)
    if after is not None:
        query = query.where(chunk.last_step > after)
    # fetched at once: an open cursor would keep SQLite's log from being reset
    rows = connection.execute(query.order_by(chunk.number)).all()
    points = Points.joined([unpack(row.payload) for row in rows])
    if after is None:
        return points
    return points[int(np.searchsorted(points.steps, after, side="right")) :]


@dataclass(frozen=True)
class StoredOutput:
    """A layer output read back. Bytes 0 … 255 stand for values evenly from low to high."""

    layer: str
    call: int
    step: int
    full_shape: tuple[int, ...]
    low: float
    high: float
    quantised: npt.NDArray[np.uint8]
    """(examples, channels, height, width), or (examples, features) for vectors."""

    def values(self) -> npt.NDArray[np.float32]:
        """What the layer gave, to within half of (high - low) / 255."""
        span = np.float32(self.high) - np.float32(self.low)
        return np.float32(self.low) + self.quantised.astype(np.float32) * (span / np.float32(255))


def list_layer_outputs(
    connection: Connection, run_id: int, view: str = "channels"
) -> Sequence[Any]:
    """Which layers were kept at which steps, without their contents."""
    c = layer_outputs.c
    columns = (c.layer, c.call, c.step, c.view, c.shape, c.full_shape, c.dtype, c.low, c.high)
    query = select(*columns, func.length(c.payload).label("bytes")).where(
        c.run_id == run_id, c.view == view
    )
    return connection.execute(query.order_by(c.id)).all()


def read_layer_output(
    connection: Connection,
    run_id: int,
    layer: str,
    step: int,
    call: int = 0,
    view: str = "channels",
) -> StoredOutput | None:
    query = select(layer_outputs).filter_by(
        run_id=run_id, layer=layer, step=step, call=call, view=view
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else stored_output(row)


def read_probe_input(connection: Connection, run_id: int) -> StoredOutput | None:
    """What the layers were shown: the probe batch as the network got it."""
    query = select(layer_outputs).filter_by(run_id=run_id, view="input")
    row = connection.execute(query.order_by(layer_outputs.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else stored_output(row)


def stored_output(row: Row[Any]) -> StoredOutput:
    flat = np.frombuffer(zlib.decompress(row.payload), np.uint8)
    return StoredOutput(
        layer=row.layer,
        call=row.call,
        step=row.step,
        full_shape=tuple(row.full_shape),
        low=row.low,
        high=row.high,
        quantised=flat.reshape(row.shape),
    )


def read_log(connection: Connection, run_id: int, after: int = -1) -> Sequence[Row[Any]]:
    """Log chunks numbered beyond `after`: number, attempt, written_at, text."""
    query = select(log_chunks).where(log_chunks.c.run_id == run_id, log_chunks.c.number > after)
    return connection.execute(query.order_by(log_chunks.c.number)).all()


def list_checkpoints(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    """The run's checkpoints, newest first."""
    query = select(checkpoints).filter_by(run_id=run_id)
    return connection.execute(query.order_by(checkpoints.c.step.desc())).all()
