"""survival: order in the queue, named failures, what a process does, leases, a queue that pauses"""

import json

import sqlalchemy as sa
from alembic import op

from trainer.store.database import Document, Number, Seconds

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOTHING = sa.text("0")


def upgrade() -> None:
    for column in (
        sa.Column(
            "cause", sa.Text(), server_default="", nullable=False, comment="the kind of its failure"
        ),
        sa.Column("failure", Document, nullable=True, comment="what is known of its failure"),
        sa.Column(
            "place", Seconds, server_default=NOTHING, nullable=False, comment="order in the queue"
        ),
        sa.Column(
            "tries", Number, server_default=NOTHING, nullable=False, comment="since it got on"
        ),
        sa.Column("wanted_device", sa.Text(), server_default="auto", nullable=False),
        sa.Column("archived_at", Seconds, nullable=True),
        sa.Column(
            "activity",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="what its process does",
        ),
        sa.Column(
            "moved_at",
            Seconds,
            nullable=True,
            comment="when it last got on, by the database's clock",
        ),
    ):
        op.add_column("runs", column)
    op.execute("UPDATE runs SET place = id, tries = attempt")
    copy_wanted_devices(op.get_bind())
    op.drop_index("ix_runs_queue", "runs")
    op.create_index("ix_runs_queue", "runs", ["status", "priority", "place"])
    op.add_column(
        "workers",
        sa.Column(
            "token", sa.Text(), server_default="", nullable=False, comment="names its lock file"
        ),
    )
    op.add_column(
        "workers",
        sa.Column(
            "trouble",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="why it claims nothing",
        ),
    )
    op.create_table(
        "queue_state",
        sa.Column("id", Number, nullable=False, comment="always 1"),
        sa.Column(
            "paused_at",
            Seconds,
            nullable=True,
            comment="since when nothing is claimed; NULL while it goes on",
        ),
        sa.Column("changed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queue_state")),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO queue_state (id) VALUES (1)")


def copy_wanted_devices(connection: sa.Connection) -> None:
    runs = sa.table("runs", sa.column("id"), sa.column("config"), sa.column("wanted_device"))
    rows = connection.execute(sa.select(runs.c.id, runs.c.config)).all()
    for row in rows:
        device = json.loads(row.config).get("device", "auto")
        connection.execute(sa.update(runs).where(runs.c.id == row.id).values(wanted_device=device))


def downgrade() -> None:
    op.drop_table("queue_state")
    op.drop_column("workers", "trouble")
    op.drop_column("workers", "token")
    op.drop_index("ix_runs_queue", "runs")
    for name in (
        "moved_at",
        "activity",
        "archived_at",
        "wanted_device",
        "tries",
        "place",
        "failure",
        "cause",
    ):
        op.drop_column("runs", name)
    op.create_index("ix_runs_queue", "runs", ["status", "priority", "id"])
