"""The tables of runs, events, workers and tokens; in one metadata with the trainer's store."""

from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, Table, Text, text

from trainer.store import tables  # noqa: F401  (registers the store's tables in the metadata)
from trainer.store.database import Document, Number, Seconds, metadata


class Status(StrEnum):
    """Where a run stands. Only `app.queue` changes it."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds it and a process trains it
    PAUSED = "paused"  # a person stopped it for now; its checkpoint waits
    FINISHED = "finished"  # trained to its end, or as far as a person wanted
    FAILED = "failed"  # ended by an error, a lost process, or too many attempts
    CANCELLED = "cancelled"  # a person ended it and does not want its end result

    @property
    def is_over(self) -> bool:
        return self in (Status.FINISHED, Status.FAILED, Status.CANCELLED)

    @property
    def meaning(self) -> str:
        return MEANINGS[self]


MEANINGS = {
    Status.QUEUED: "Waits for a worker.",
    Status.RUNNING: "A worker trains it.",
    Status.PAUSED: "Stopped for now; resumes from its checkpoint.",
    Status.FINISHED: "Trained to its end.",
    Status.FAILED: "Ended by an error.",
    Status.CANCELLED: "Ended by a person.",
}


class Asked(StrEnum):
    """What a person asks of a running run; obeyed at the next step."""

    NOTHING = ""
    PAUSE = "pause"  # write a checkpoint and free the device
    STOP = "stop"  # evaluate, conclude, and count as finished
    CANCEL = "cancel"  # end now
    GIVE_BACK = "give back"  # its worker or the queue is being stopped: save, and wait again


runs = Table(
    "runs",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("recipe", Text, nullable=False, server_default=""),
    Column("note", Text, nullable=False, server_default=""),
    Column("request_key", Text, unique=True, comment="given by a program, to queue once"),
    Column("config", Document, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default="", comment="why it is where it is"),
    Column("asked", Text, nullable=False, server_default=""),
    Column("cause", Text, nullable=False, server_default="", comment="the kind of its failure"),
    Column("failure", Document, comment="what is known of its failure"),
    Column("priority", Number, nullable=False, server_default=text("0")),
    Column(
        "place", Seconds, nullable=False, server_default=text("0"), comment="order in the queue"
    ),
    Column("attempt", Number, nullable=False, server_default=text("0"), comment="starts so far"),
    Column("tries", Number, nullable=False, server_default=text("0"), comment="since it got on"),
    Column("fence", Number, nullable=False, server_default=text("0"), comment="grows per claim"),
    Column("worker_id", Number, ForeignKey("workers.id", ondelete="SET NULL")),
    Column("parent_id", Number, ForeignKey("runs.id", ondelete="SET NULL"), comment="cloned from"),
    Column("created_at", Seconds, nullable=False),
    Column("started_at", Seconds),
    Column("ended_at", Seconds),
    Column("archived_at", Seconds),
    Column("activity", Text, nullable=False, server_default="", comment="what its process does"),
    Column("moved_at", Seconds, comment="when it last got on, by the database's clock"),
    Column("step", Number, nullable=False, server_default=text("0")),
    Column("total_steps", Number),
    Column("steps_per_epoch", Number),
    Column("train_seconds", Seconds, nullable=False, server_default=text("0")),
    Column("wanted_device", Text, nullable=False, server_default="auto"),
    Column("device", Text, nullable=False, server_default=""),
    Column("environment", Document),
    Column("result", Document),
    Column("evidence", Document),
    Column("version", Number, nullable=False, server_default=text("0"), comment="grows with news"),
    Column("trick_names", Text, nullable=False, server_default="", comment="with spaces around"),
    Index("ix_runs_trick_names", "trick_names"),
    Index("ix_runs_queue", "status", "priority", "place"),
    Index("ix_runs_archived_at", "archived_at"),
    sqlite_strict=True,
    # a number is never given twice, or an old address would show another run
    sqlite_autoincrement=True,
)


def news() -> dict[str, Any]:
    """Every change of a run raises its version: what live pages watch."""
    return {"version": runs.c.version + 1}


run_events = Table(
    "run_events",
    metadata,
    Column("id", Number, primary_key=True),
    Column("run_id", Number, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Seconds, nullable=False),
    Column("kind", Text, nullable=False),
    Column("by", Text, nullable=False, comment="person, worker 3, …"),
    Column("text", Text, nullable=False, server_default=""),
    Index("ix_run_events_run", "run_id", "id"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

workers = Table(
    "workers",
    metadata,
    Column("id", Number, primary_key=True),
    Column("token", Text, nullable=False, server_default="", comment="names its lock file"),
    Column("host", Text, nullable=False),
    Column("process", Number, nullable=False, comment="process id on its host"),
    Column("device", Text, nullable=False),
    Column("device_title", Text, nullable=False, server_default=""),
    Column("started_at", Seconds, nullable=False),
    Column("seen_at", Seconds, nullable=False),
    Column("ended_at", Seconds),
    Column("trouble", Text, nullable=False, server_default="", comment="why it claims nothing"),
    sqlite_strict=True,
)

inquiries = Table(
    "inquiries",
    metadata,
    Column("id", Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("request", Document, nullable=False, comment="what is asked"),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default="", comment="why there is no answer"),
    Column("cause", Text, nullable=False, server_default="", comment="the kind of its failure"),
    Column("asked", Text, nullable=False, server_default=""),
    Column("by", Text, nullable=False),
    Column("run_id", Number, ForeignKey("runs.id", ondelete="CASCADE"), comment="it is about"),
    Column("alone", Number, nullable=False, comment="1: nothing else may use its device"),
    Column("wanted_device", Text, nullable=False, server_default="auto"),
    Column("device", Text, nullable=False, server_default=""),
    Column("worker_id", Number, ForeignKey("workers.id", ondelete="SET NULL")),
    Column("fence", Number, nullable=False, server_default=text("0"), comment="grows per claim"),
    Column("beside_run", Number, comment="the run that was trained on the device meanwhile"),
    Column("created_at", Seconds, nullable=False),
    Column("started_at", Seconds),
    Column("ended_at", Seconds),
    Column("share", Seconds, nullable=False, server_default=text("0"), comment="done, 0 to 1"),
    Column("doing", Text, nullable=False, server_default=""),
    Column("answer", Document, comment="what is known so far"),
    Index("ix_inquiries_queue", "status", "alone", "id"),
    Index("ix_inquiries_run", "run_id", "id"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

queue_state = Table(
    "queue_state",
    metadata,
    Column("id", Number, primary_key=True, comment="always 1"),
    Column("paused_at", Seconds, comment="since when nothing is claimed; NULL while it goes on"),
    Column("changed_by", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    sqlite_strict=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", Text, nullable=False, comment="who uses it"),
    Column("role", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="program, browser, or once: an address"),
    Column("hash", Text, nullable=False, unique=True, comment="SHA-256 of the secret"),
    Column("made_from", Number, ForeignKey("tokens.id", ondelete="CASCADE")),
    Column("made_at", Seconds, nullable=False),
    Column("used_at", Seconds),
    Column("expires_at", Seconds),
    Column("revoked_at", Seconds),
    Index("ix_tokens_made_from", "made_from"),
    sqlite_strict=True,
    # a number is never given twice, or what was revoked would live again
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Seconds, nullable=False),
    Column("who", Text, nullable=False),
    Column("role", Text, nullable=False, server_default=""),
    Column("address", Text, nullable=False, comment="of the client"),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False, comment="without its query"),
    Column("status", Number, nullable=False, comment="of the answer"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
