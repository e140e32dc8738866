"""The tables of what a run records. `app.models` owns `runs`, in the same metadata."""

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from trainer.store.database import Document, Measured, Number, Seconds, metadata

RUN = "runs.id"
IS_METRIC = text("layer = ''")

series = Table(
    "series",
    metadata,
    Column("id", Number, primary_key=True),
    Column("run_id", Number, ForeignKey(RUN, ondelete="CASCADE"), nullable=False),
    Column("layer", Text, nullable=False, default="", comment="empty for a metric of the run"),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False, default=""),
    Column("points", Number, nullable=False, comment="how many there are"),
    Column("nonfinite", Number, nullable=False, comment="how many are NaN or infinite"),
    Column("first_step", Number, nullable=False),
    Column("last_step", Number, nullable=False),
    Column("first", Measured),
    Column("last", Measured),
    Column("lowest", Measured, comment="of the finite values; NULL where there is none"),
    Column("lowest_step", Number, nullable=False),
    Column("highest", Measured, comment="of the finite values; NULL where there is none"),
    Column("highest_step", Number, nullable=False),
    Column("total", Measured, comment="sum of the finite values"),
    UniqueConstraint("run_id", "layer", "name"),
    # lists of runs by a metric: without it every run's is looked up
    Index("ix_series_metric", "name", "last", sqlite_where=IS_METRIC, postgresql_where=IS_METRIC),
    sqlite_strict=True,
)

OF_RUNS = series.c.layer == literal_column("''")
"""Metrics, not layer statistics. Written out: an index for some rows serves no parameter."""

series_chunks = Table(
    "series_chunks",
    metadata,
    Column("series_id", Number, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True),
    Column("level", Number, primary_key=True, comment="0 holds every point, others buckets"),
    Column("number", Number, primary_key=True, comment="place of its first point in the series"),
    Column("points", Number, nullable=False),
    Column("first_step", Number, nullable=False),
    Column("last_step", Number, nullable=False),
    Column("lowest", Measured),
    Column("highest", Measured),
    Column("total", Measured),
    Column("payload", LargeBinary, nullable=False, comment="see trainer/store/packing.py"),
    sqlite_strict=True,
)

layer_outputs = Table(
    "layer_outputs",
    metadata,
    Column("id", Number, primary_key=True),
    Column("run_id", Number, ForeignKey(RUN, ondelete="CASCADE"), nullable=False),
    Column("layer", Text, nullable=False),
    Column("call", Number, nullable=False, comment="a module used twice gives two outputs"),
    Column("step", Number, nullable=False),
    Column("view", Text, nullable=False, comment="channels, or input: the probe batch"),
    Column("shape", Document, nullable=False, comment="of what is kept: examples, channels, …"),
    Column("full_shape", Document, nullable=False, comment="of what the layer gave"),
    Column("dtype", Text, nullable=False, comment="what the layer gave"),
    Column("low", Measured, comment="the value that byte 0 stands for"),
    Column("high", Measured, comment="the value that byte 255 stands for"),
    Column("payload", LargeBinary, nullable=False, comment="bytes, zlib-compressed"),
    UniqueConstraint("run_id", "layer", "call", "step", "view"),
    Index("ix_layer_outputs_step", "run_id", "step"),
    sqlite_strict=True,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Number, primary_key=True),
    Column("run_id", Number, ForeignKey(RUN, ondelete="CASCADE"), nullable=False),
    Column("step", Number, nullable=False),
    Column("file", Text, nullable=False, comment="name inside the run's folder"),
    Column("bytes", Number, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", Seconds, nullable=False),
    UniqueConstraint("run_id", "step"),
    sqlite_strict=True,
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("run_id", Number, ForeignKey(RUN, ondelete="CASCADE"), primary_key=True),
    Column("number", Number, primary_key=True),
    Column("attempt", Number, nullable=False),
    Column("written_at", Seconds, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_strict=True,
)
