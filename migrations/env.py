"""Alembic's entry: runs migrations on the connection that `app.db.migrate` hands over."""

from alembic import context
from sqlalchemy import Connection

import app.models  # noqa: F401  (fills the metadata)
from app.settings import Settings
from trainer.store.database import connect, metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # all revisions in the caller's transaction: a failed upgrade leaves the old schema
        transactional_ddl=True,
        transaction_per_migration=False,
        render_as_batch=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with connect(Settings().database_url).begin() as own:
        run(own)
