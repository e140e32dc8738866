"""The sample comparison: a baseline and three tricks on real digits."""

from sqlalchemy import Connection, Engine, exists, select

from app import queue
from app.models import runs
from trainer.recipes import SAMPLE_COMPARISON, recipe
from trainer.store.database import writing


def add_samples(connection: Connection) -> list[int]:
    """Queue the comparison's runs and give their numbers."""
    return [
        queue.add(connection, recipe(name).config, recipe=name, note=recipe(name).purpose)
        for name in SAMPLE_COMPARISON
    ]


def add_samples_once(engine: Engine) -> list[int]:
    """Queue them in a lab without any run; elsewhere nothing, so a second demo adds none."""
    with writing(engine) as connection:
        if connection.execute(select(exists().where(runs.c.id > 0))).scalar():
            return []
        return add_samples(connection)
