"""inquiries: questions that are answered on a worker's device without training a run"""

import sqlalchemy as sa
from alembic import op

from trainer.store.database import Document, Number, Seconds

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inquiries",
        sa.Column("id", Number, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("request", Document(), nullable=False, comment="what is asked"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "reason",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="why there is no answer",
        ),
        sa.Column(
            "cause", sa.Text(), server_default="", nullable=False, comment="the kind of its failure"
        ),
        sa.Column("asked", sa.Text(), server_default="", nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("run_id", Number, nullable=True, comment="it is about"),
        sa.Column("alone", Number, nullable=False, comment="1: nothing else may use its device"),
        sa.Column("wanted_device", sa.Text(), server_default="auto", nullable=False),
        sa.Column("device", sa.Text(), server_default="", nullable=False),
        sa.Column("worker_id", Number, nullable=True),
        sa.Column(
            "fence", Number, server_default=sa.text("0"), nullable=False, comment="grows per claim"
        ),
        sa.Column(
            "beside_run",
            Number,
            nullable=True,
            comment="the run that was trained on the device meanwhile",
        ),
        sa.Column("created_at", Seconds, nullable=False),
        sa.Column("started_at", Seconds, nullable=True),
        sa.Column("ended_at", Seconds, nullable=True),
        sa.Column(
            "share", Seconds, server_default=sa.text("0"), nullable=False, comment="done, 0 to 1"
        ),
        sa.Column("doing", sa.Text(), server_default="", nullable=False),
        sa.Column("answer", Document(), nullable=True, comment="what is known so far"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_inquiries_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
            name=op.f("fk_inquiries_worker_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inquiries")),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inquiries_queue", "inquiries", ["status", "alone", "id"])
    op.create_index("ix_inquiries_run", "inquiries", ["run_id", "id"])


def downgrade() -> None:
    op.drop_table("inquiries")
