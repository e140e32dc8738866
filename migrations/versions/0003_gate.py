"""gate: tokens with roles, and who did what"""

import sqlalchemy as sa
from alembic import op

from trainer.store.database import Number, Seconds

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", Number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="who uses it"),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="program, browser, or once: an address"
        ),
        sa.Column("hash", sa.Text(), nullable=False, comment="SHA-256 of the secret"),
        sa.Column("made_from", Number, nullable=True),
        sa.Column("made_at", Seconds, nullable=False),
        sa.Column("used_at", Seconds, nullable=True),
        sa.Column("expires_at", Seconds, nullable=True),
        sa.Column("revoked_at", Seconds, nullable=True),
        sa.ForeignKeyConstraint(
            ["made_from"], ["tokens.id"], name=op.f("fk_tokens_made_from"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_made_from", "tokens", ["made_from"])
    op.create_table(
        "audit",
        sa.Column("id", Number, nullable=False),
        sa.Column("at", Seconds, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), nullable=False, comment="of the client"),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, comment="without its query"),
        sa.Column("status", Number, nullable=False, comment="of the answer"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("tokens")
