"""The work of a lab: its workers, the runs they hold, and the files that runs need."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from app.doctor.finding import Finding, bad, ok, warning
from app.models import Status, runs, workers
from app.settings import Settings
from trainer.checkpoint import is_whole
from trainer.place import checkpoint_folder
from trainer.store.database_clock import database_now
from trainer.store.reader import list_checkpoints

UNFINISHED = (Status.QUEUED, Status.RUNNING, Status.PAUSED)
MOST_RUNS = 20
MOST_BYTES = 4_000_000_000
"""How much of checkpoints is read to compare their hashes."""
START = "start one with `tricklab worker`, or `tricklab serve`, which keeps one"


def examine_work(connection: Connection, settings: Settings) -> Iterator[Finding]:
    yield from examine_workers(connection, settings.lease_seconds)
    yield from examine_checkpoints(connection, settings)
    yield strays(connection, settings.folder / "runs")


# -- workers --------------------------------------------------------------------------------


def examine_workers(connection: Connection, lease_seconds: float) -> Iterator[Finding]:
    # these columns only: the database may have an older schema
    c = workers.c
    silence = (database_now() - c.seen_at).label("silence")
    query = select(c.id, c.host, c.process, c.device, silence).where(c.ended_at.is_(None))
    rows = connection.execute(query.order_by(c.id)).all()
    alive = [row for row in rows if abs(row.silence) <= lease_seconds]
    silent = [row for row in rows if row not in alive]
    if alive:
        each = (f"{row.id} on {row.device} (process {row.process} on {row.host})" for row in alive)
        yield ok("workers", f"alive: {', '.join(each)}")
    elif not silent:
        yield ok("workers", "none")
    for row in silent:
        yield warning(
            "workers",
            f"worker {row.id} on {row.device} (process {row.process} on {row.host}) gave its "
            f"last sign {abs(row.silence):,.0f} s ago",
            "nothing: the next worker gives back what it held",
        )
    yield from examine_held(connection, [row.id for row in alive])


def examine_held(connection: Connection, alive: Sequence[int]) -> Iterator[Finding]:
    """Runs that no living worker holds although they are running, or wait for one in vain."""
    running = select(runs.c.id, runs.c.worker_id).where(runs.c.status == Status.RUNNING)
    found = connection.execute(running.order_by(runs.c.id)).all()
    lost = [row.id for row in found if row.worker_id not in alive]
    if lost:
        goes_on = "nothing: a living worker takes them over" if alive else START
        yield warning("runs", f"{named(lost)} running, and no living worker holds them", goes_on)
    queued = select(runs.c.id).where(runs.c.status == Status.QUEUED).order_by(runs.c.id)
    waiting = list(connection.execute(queued).scalars())
    if waiting and not alive:
        yield warning("runs", f"{named(waiting)} waiting, and no worker lives", START)
    elif not lost:
        yield ok("runs", f"{len(found)} running, {len(waiting)} waiting")


def named(numbers: Sequence[int]) -> str:
    """ "run 3 is", "runs 3, 4 and 7 more are"."""
    shown = ", ".join(map(str, numbers[:5]))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"run {shown} is" if len(numbers) == 1 else f"runs {shown}{more} are"


# -- files ----------------------------------------------------------------------------------


def examine_checkpoints(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Whether the checkpoints that unfinished runs would resume from are whole."""
    c = runs.c
    query = select(c.id).where(c.status.in_(UNFINISHED)).order_by(c.id.desc()).limit(MOST_RUNS)
    left, whole = MOST_BYTES, 0
    for run_id in connection.execute(query).scalars().all():
        saved = list_checkpoints(connection, run_id)
        if not saved:
            continue
        folder = checkpoint_folder(settings.run_folder(run_id))
        left -= saved[0].bytes
        if is_there(folder, saved[0], hashed=left >= 0):
            whole += 1
        else:
            yield damaged(run_id, folder, saved)
    yield ok("checkpoints", f"the newest of {whole} unfinished runs can be resumed from")


def is_there(folder: Path, saved: Row[Any], *, hashed: bool) -> bool:
    file = folder / saved.file
    if hashed:
        return is_whole(file, saved.sha256)
    return file.is_file() and bool(file.stat().st_size == saved.bytes)


def damaged(run_id: int, folder: Path, saved: Sequence[Row[Any]]) -> Finding:
    newest, *before = saved
    words = f"{folder / newest.file}, the newest of run {run_id}, is missing or damaged"
    for older in before:
        if is_there(folder, older, hashed=True):
            return warning(
                "checkpoints", words, f"nothing: the run resumes from the one at step {older.step}"
            )
    return bad(
        "checkpoints",
        f"{words}, and there is no whole one before it",
        "put the file back from a backup of yours, or let the run start again from the beginning",
    )


def strays(connection: Connection, folder: Path) -> Finding:
    """Folders of runs that the database does not know."""
    # the folders first: a run that is added meanwhile must not look like a stray
    found = {int(path.name): path for path in folder.glob("*") if path.name.isdecimal()}
    known = set(connection.execute(select(runs.c.id)).scalars())
    unowned = [found[number] for number in sorted(found.keys() - known)]
    if not unowned:
        return ok("files", "every folder of a run belongs to one")
    size = sum(path.stat().st_size for one in unowned for path in one.rglob("*") if path.is_file())
    names = ", ".join(str(path) for path in unowned[:5])
    more = f" and {len(unowned) - 5} more" if len(unowned) > 5 else ""
    return warning(
        "files",
        f"{names}{more} belong to no run ({size / 1e6:,.1f} MB)",
        "delete them, unless a backup that knows these runs is to be restored",
    )
