"""trick names: which tricks a run has, in a column of their own that can be counted and searched"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BLOCK = 500


def upgrade() -> None:
    column = sa.Column(
        "trick_names", sa.Text(), server_default="", nullable=False, comment="with spaces around"
    )
    op.add_column("runs", column)
    fill(op.get_bind())
    op.create_index("ix_runs_trick_names", "runs", ["trick_names"])


def fill(connection: sa.Connection) -> None:
    """Read the names out of each config, some runs at a time: a config is kilobytes."""
    runs = sa.table("runs", sa.column("id"), sa.column("config"), sa.column("trick_names"))
    last = 0
    while True:
        some = sa.select(runs.c.id, runs.c.config).where(runs.c.id > last).order_by(runs.c.id)
        rows = connection.execute(some.limit(BLOCK)).all()
        if not rows:
            return
        named = [
            {"run": row.id, "names": " ".join(["", *(t["name"] for t in tricks), ""])}
            for row in rows
            if (tricks := json.loads(row.config)["tricks"])
        ]
        if named:
            write = sa.update(runs).where(runs.c.id == sa.bindparam("run"))
            connection.execute(write.values(trick_names=sa.bindparam("names")), named)
        last = rows[-1].id


def downgrade() -> None:
    op.drop_index("ix_runs_trick_names", "runs")
    op.drop_column("runs", "trick_names")
