"""A small lab for tests: a database in a folder, and runs trained in the test's own process."""

import functools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, Row, delete, insert, select

from app import queue
from app.db import migrate, open_database
from app.events import events_of
from app.executors.training import train_claimed
from app.models import Asked, runs, workers
from app.queue import Claim
from app.settings import Settings
from trainer.config import RunConfig
from trainer.loop import Progress
from trainer.recipes import recipe
from trainer.store.database import connect, reading, sqlite_file, writing
from trainer.store.packing import Points
from trainer.store.reader import find_series, read_points
from trainer.watch import RunWatch


@dataclass
class Lab:
    """A lab's settings and database, with the few things tests do again and again."""

    settings: Settings
    engine: Engine
    worker_id: int

    @classmethod
    def at(cls, folder: Path, **settings: Any) -> "Lab":
        chosen = Settings(folder=folder, **settings)
        file = sqlite_file(chosen.database_url)
        if file is not None and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(empty_database())
        engine = open_database(chosen)
        with writing(engine) as connection:
            result = connection.execute(
                insert(workers).values(
                    host="here", process=1, device="cpu", started_at=0.0, seen_at=time.time()
                )
            )
        assert result.inserted_primary_key is not None
        return cls(chosen, engine, result.inserted_primary_key[0])

    def forget_worker(self) -> None:
        """Take away the made-up worker, where real ones are to come."""
        with writing(self.engine) as connection:
            connection.execute(delete(workers))

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

    def train_claimed(self, run_id: int) -> None:
        """Claim a queued run and train it to its end in this process."""
        train_claimed(self.claim(run_id), self.settings)

    def resume(self, run_id: int) -> None:
        with writing(self.engine) as connection:
            queue.resume(connection, run_id)

    def train_until(self, run_id: int, step: int) -> None:
        """Claim a queued run and train it; paused by a person at exactly this step."""
        claim = self.claim(run_id)
        engine = self.engine

        class Interrupted(RunWatch):
            """Asked to pause between two steps, where the recorder would hear it a moment later."""

            def is_to_end(self, progress: Progress) -> bool:
                if progress.step >= step and not self.recorder.asked:
                    with writing(engine) as connection:
                        queue.ask(connection, run_id, Asked.PAUSE)
                    self.recorder.asked = Asked.PAUSE
                return super().is_to_end(progress)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("trainer.run.RunWatch", Interrupted)
            train_claimed(claim, self.settings)

    def run(self, run_id: int) -> Row[Any]:
        with reading(self.engine) as connection:
            return connection.execute(select(runs).where(runs.c.id == run_id)).one()

    def points(self, run_id: int, name: str, layer: str = "") -> Points:
        with reading(self.engine) as connection:
            row = find_series(connection, run_id, name, layer)
            assert row is not None, f"run {run_id} has no series {name} {layer}"
            return read_points(connection, row.id)

    def events(self, run_id: int) -> list[tuple[str, str]]:
        """Kind and text of every event of a run, oldest first."""
        with reading(self.engine) as connection:
            return [(event.kind, event.text) for event in events_of(connection, run_id)]


@functools.cache
def empty_database() -> bytes:
    """A file with the newest schema and no run. Migrated once per process: labs are made by the
    hundred, and migrations have tests of their own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        engine = connect(f"sqlite:///{file}")
        migrate(engine)
        # closed, so that nothing is left in a log beside it
        engine.dispose()
        return file.read_bytes()


def points_of(values: Sequence[float], first: int = 1, stride: int = 1) -> Points:
    """Points with these values at even steps, eight a second."""
    steps = first + stride * np.arange(len(values), dtype=np.int64)
    return Points(steps, np.asarray(values, np.float64), 1.7e9 + steps / 8)


def quick_config(**changes: Any) -> RunConfig:
    """The digits CNN for two epochs: under half a second."""
    return changed(recipe("digits-cnn").config, **{"budget": {"epochs": 2}, **changes})


def tiny_config(**changes: Any) -> RunConfig:
    """The digits CNN at its smallest, for four steps and without looking: a tenth of a second."""
    tiny = {
        "model": {"width": 2},
        "loader": {"batch_size": 360},
        "budget": {"epochs": 1},
        "recording": {"layer_steps": "never"},
        "threads": 1,
    }
    return changed(changed(recipe("digits-cnn").config, **tiny), **changes)


def changed(config: RunConfig, **changes: Any) -> RunConfig:
    """The config with some of its parts, or fields of parts, replaced; validated anew."""
    return RunConfig.model_validate(merged(config.model_dump(), changes))


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if new.get("name", old.get("name")) != old.get("name"):
            return new
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return new
