"""metric order: lists of runs by a metric read an index"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    metrics = sa.text("layer = ''")
    op.create_index(
        "ix_series_metric",
        "series",
        ["name", "last"],
        sqlite_where=metrics,
        postgresql_where=metrics,
    )


def downgrade() -> None:
    op.drop_index("ix_series_metric", "series")
