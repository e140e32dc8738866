"""Overseer: whoever had a run started, as far as the training process knows of them."""

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import Connection


class Overseer(Protocol):
    """Told how far a run is, answers what is asked of it. All calls stand inside a transaction.

    Those that write raise when this process may no longer write the run.
    """

    def begin(self, connection: Connection, facts: Mapping[str, Any]) -> None:
        """Once, before the first step: device, environment, total_steps, steps_per_epoch, step."""

    def report(self, connection: Connection, step: int, train_seconds: float, activity: str) -> str:
        """How far the run is, as it has got on; answers as `asked` does."""

    def say(self, connection: Connection, activity: str) -> None:
        """What the run is stuck in for the moment."""

    def saved(self, connection: Connection) -> None:
        """A checkpoint was written: whatever happens, the run will not have to begin before it."""

    def asked(self, connection: Connection) -> str:
        """ "", "pause", "stop", "cancel" or "give back"."""
