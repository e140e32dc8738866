"""levels: a chunk is known by the place of its first point; runs are counted by an index"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# by way of negative numbers: a row must not take the number of one that is yet to change
THERE = ("number = -1 - number * 4096", "number = -1 - number")
COMMENTS = {
    "level": ("0 holds every point", "0 holds every point, others buckets"),
    "number": ("place among the chunks of its level", "place of its first point in the series"),
}
BACK = ("number = -1 - number / 4096", "number = -1 - number")


def upgrade() -> None:
    for change in THERE:
        op.execute(f"UPDATE series_chunks SET {change}")
    comment(1)
    # counting ten thousand runs would otherwise read them all
    op.create_index("ix_runs_archived_at", "runs", ["archived_at"])


def comment(which: int) -> None:
    if op.get_context().dialect.supports_comments:
        for column, texts in COMMENTS.items():
            op.alter_column(
                "series_chunks",
                column,
                comment=texts[which],
                existing_comment=texts[1 - which],
                existing_type=sa.BigInteger(),
                existing_nullable=False,
            )


def downgrade() -> None:
    parts = "SELECT count(*) FROM series_chunks WHERE level = 0 AND number % 4096 <> 0"
    if op.get_bind().exec_driver_sql(parts).scalar():
        raise RuntimeError("older programs know no parts of chunks; restore the backup instead")
    op.execute("DELETE FROM series_chunks WHERE level > 0")
    for change in BACK:
        op.execute(f"UPDATE series_chunks SET {change}")
    comment(0)
    op.drop_index("ix_runs_archived_at", "runs")
