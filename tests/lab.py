"""A small lab for tests: a database in a folder, and runs trained in the test's own process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, insert, select

from app import queue
from app.db import open_database
from app.executors.training import train_claimed
from app.models import runs, workers
from app.queue import Claim
from app.settings import Settings
from trainer.config import RunConfig
from trainer.recipes import recipe
from trainer.store.database import reading, writing
from trainer.store.packing import Points
from trainer.store.reader import find_series, read_points


@dataclass
class Lab:
    """A lab's settings and database, with the few things tests do again and again."""

    settings: Settings
    engine: Engine
    worker_id: int

    @classmethod
    def at(cls, folder: Path, **settings: Any) -> "Lab":
        chosen = Settings(folder=folder, **settings)
        engine = open_database(chosen)
        with writing(engine) as connection:
            result = connection.execute(
                insert(workers).values(
                    host="here", process=1, device="cpu", started_at=0.0, seen_at=queue.now()
                )
            )
        assert result.inserted_primary_key is not None
        return cls(chosen, engine, result.inserted_primary_key[0])

    def add(self, config: RunConfig | None = None, **more: Any) -> int:
        with writing(self.engine) as connection:
            return queue.add(connection, config or quick_config(), **more)

    def claim(self, run_id: int | None = None) -> Claim:
        with writing(self.engine) as connection:
            claim = queue.claim(connection, self.worker_id, run_id)
        assert claim is not None
        return claim

    def train(self, config: RunConfig | None = None, **more: Any) -> int:
        """Queue a run and train it to its end in this process; gives its number."""
        run_id = self.add(config, **more)
        train_claimed(self.claim(run_id), self.settings)
        return run_id

    def run(self, run_id: int) -> Row[Any]:
        with reading(self.engine) as connection:
            return connection.execute(select(runs).where(runs.c.id == run_id)).one()

    def points(self, run_id: int, name: str, layer: str = "") -> Points:
        with reading(self.engine) as connection:
            row = find_series(connection, run_id, name, layer)
            assert row is not None, f"run {run_id} has no series {name} {layer}"
            return read_points(connection, row.id)


def quick_config(**changes: Any) -> RunConfig:
    """The digits CNN for two epochs: under half a second."""
    return changed(recipe("digits-cnn").config, **{"budget": {"epochs": 2}, **changes})


def changed(config: RunConfig, **changes: Any) -> RunConfig:
    """The config with some of its parts, or fields of parts, replaced; validated anew."""
    return RunConfig.model_validate(merged(config.model_dump(), changes))


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if new.get("name", old.get("name")) != old.get("name"):
            return new
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return new
