"""the spine: runs, events, workers, and what a run records"""

import sqlalchemy as sa
from alembic import op

from trainer.store.database import Document, Measured, Number, Seconds

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", Number, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", Number, nullable=False, comment="process id on its host"),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("device_title", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", Seconds, nullable=False),
        sa.Column("seen_at", Seconds, nullable=False),
        sa.Column("ended_at", Seconds, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sqlite_strict=True,
    )
    op.create_table(
        "runs",
        sa.Column("id", Number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), server_default="", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "request_key", sa.Text(), nullable=True, comment="given by a program, to queue once"
        ),
        sa.Column("config", Document, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "reason", sa.Text(), server_default="", nullable=False, comment="why it is where it is"
        ),
        sa.Column("asked", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", Number, server_default=sa.text("0"), nullable=False),
        sa.Column(
            "attempt", Number, server_default=sa.text("0"), nullable=False, comment="starts so far"
        ),
        sa.Column(
            "fence", Number, server_default=sa.text("0"), nullable=False, comment="grows per claim"
        ),
        sa.Column("worker_id", Number, nullable=True),
        sa.Column("parent_id", Number, nullable=True, comment="cloned from"),
        sa.Column("created_at", Seconds, nullable=False),
        sa.Column("started_at", Seconds, nullable=True),
        sa.Column("ended_at", Seconds, nullable=True),
        sa.Column("step", Number, server_default=sa.text("0"), nullable=False),
        sa.Column("total_steps", Number, nullable=True),
        sa.Column("steps_per_epoch", Number, nullable=True),
        sa.Column("train_seconds", Seconds, server_default=sa.text("0"), nullable=False),
        sa.Column("device", sa.Text(), server_default="", nullable=False),
        sa.Column("environment", Document, nullable=True),
        sa.Column("result", Document, nullable=True),
        sa.Column("evidence", Document, nullable=True),
        sa.Column(
            "version",
            Number,
            server_default=sa.text("0"),
            nullable=False,
            comment="grows with news",
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["runs.id"], name=op.f("fk_runs_parent_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.id"], name=op.f("fk_runs_worker_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("name", name=op.f("uq_runs_name")),
        sa.UniqueConstraint("request_key", name=op.f("uq_runs_request_key")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("ix_runs_queue", "runs", ["status", "priority", "id"])

    op.create_table(
        "checkpoints",
        sa.Column("id", Number, nullable=False),
        sa.Column("run_id", Number, nullable=False),
        sa.Column("step", Number, nullable=False),
        sa.Column("file", sa.Text(), nullable=False, comment="name inside the run's folder"),
        sa.Column("bytes", Number, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", Seconds, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_checkpoints_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("run_id", "step", name=op.f("uq_checkpoints_run_id_step")),
        sqlite_strict=True,
    )
    op.create_table(
        "layer_outputs",
        sa.Column("id", Number, nullable=False),
        sa.Column("run_id", Number, nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("call", Number, nullable=False, comment="a module used twice gives two outputs"),
        sa.Column("step", Number, nullable=False),
        sa.Column("view", sa.Text(), nullable=False, comment="channels, or input: the probe batch"),
        sa.Column(
            "shape", Document, nullable=False, comment="of what is kept: examples, channels, …"
        ),
        sa.Column("full_shape", Document, nullable=False, comment="of what the layer gave"),
        sa.Column("dtype", sa.Text(), nullable=False, comment="what the layer gave"),
        sa.Column("low", Measured, nullable=True, comment="the value that byte 0 stands for"),
        sa.Column("high", Measured, nullable=True, comment="the value that byte 255 stands for"),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="bytes, zlib-compressed"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_layer_outputs_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_layer_outputs")),
        sa.UniqueConstraint(
            "run_id",
            "layer",
            "call",
            "step",
            "view",
            name=op.f("uq_layer_outputs_run_id_layer_call_step_view"),
        ),
        sqlite_strict=True,
    )
    op.create_index("ix_layer_outputs_step", "layer_outputs", ["run_id", "step"])

    op.create_table(
        "log_chunks",
        sa.Column("run_id", Number, nullable=False),
        sa.Column("number", Number, nullable=False),
        sa.Column("attempt", Number, nullable=False),
        sa.Column("written_at", Seconds, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_log_chunks_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_log_chunks")),
        sqlite_strict=True,
    )
    op.create_table(
        "run_events",
        sa.Column("id", Number, nullable=False),
        sa.Column("run_id", Number, nullable=False),
        sa.Column("at", Seconds, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False, comment="person, worker 3, …"),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_events_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_events")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("ix_run_events_run", "run_events", ["run_id", "id"])

    op.create_table(
        "series",
        sa.Column("id", Number, nullable=False),
        sa.Column("run_id", Number, nullable=False),
        sa.Column("layer", sa.Text(), nullable=False, comment="empty for a metric of the run"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("points", Number, nullable=False, comment="how many there are"),
        sa.Column("nonfinite", Number, nullable=False, comment="how many are NaN or infinite"),
        sa.Column("first_step", Number, nullable=False),
        sa.Column("last_step", Number, nullable=False),
        sa.Column("first", Measured, nullable=True),
        sa.Column("last", Measured, nullable=True),
        sa.Column(
            "lowest",
            Measured,
            nullable=True,
            comment="of the finite values; NULL where there is none",
        ),
        sa.Column("lowest_step", Number, nullable=False),
        sa.Column(
            "highest",
            Measured,
            nullable=True,
            comment="of the finite values; NULL where there is none",
        ),
        sa.Column("highest_step", Number, nullable=False),
        sa.Column("total", Measured, nullable=True, comment="sum of the finite values"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_series_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("run_id", "layer", "name", name=op.f("uq_series_run_id_layer_name")),
        sqlite_strict=True,
    )
    op.create_table(
        "series_chunks",
        sa.Column("series_id", Number, nullable=False),
        sa.Column("level", Number, nullable=False, comment="0 holds every point"),
        sa.Column("number", Number, nullable=False, comment="place among the chunks of its level"),
        sa.Column("points", Number, nullable=False),
        sa.Column("first_step", Number, nullable=False),
        sa.Column("last_step", Number, nullable=False),
        sa.Column("lowest", Measured, nullable=True),
        sa.Column("highest", Measured, nullable=True),
        sa.Column("total", Measured, nullable=True),
        sa.Column(
            "payload", sa.LargeBinary(), nullable=False, comment="see trainer/store/packing.py"
        ),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["series.id"],
            name=op.f("fk_series_chunks_series_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("series_id", "level", "number", name=op.f("pk_series_chunks")),
        sqlite_strict=True,
    )


def downgrade() -> None:
    op.drop_table("series_chunks")
    op.drop_table("series")
    op.drop_index("ix_run_events_run", "run_events")

    op.drop_table("run_events")
    op.drop_table("log_chunks")
    op.drop_index("ix_layer_outputs_step", "layer_outputs")

    op.drop_table("layer_outputs")
    op.drop_table("checkpoints")
    op.drop_index("ix_runs_queue", "runs")

    op.drop_table("runs")
    op.drop_table("workers")
