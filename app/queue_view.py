"""QueueView: the queue as pages, the API and the command line show it, and what holds it up."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from app.models import Status, runs
from app.order import queue_status
from app.queue import for_device
from app.run_view import runs_by_id
from app.settings import Settings
from app.worker_view import list_workers

MOST_WAITING = 500

Worker = Mapping[str, Any]


def queue_view(connection: Connection, settings: Settings) -> dict[str, Any]:
    """Whether the queue is paused, what waits in which order and for what, what runs, who trains.

    Of the waiting runs only the first 500 are given; `waiting_total` counts all. `position` counts
    from 1, the next to be trained. `waits_for` is a sentence where no living worker can take the
    run, and empty where it only waits for its turn.
    """
    state = queue_status(connection)
    workers = list_workers(connection, settings.lease_seconds)
    rows = first_waiting(connection)
    hindrances = hindrances_of(connection, rows, workers)
    if state.paused_at is not None:
        hindrances = dict.fromkeys(hindrances, pause_in_words(state.reason))
    running = select(runs.c.id).where(runs.c.status == Status.RUNNING).order_by(runs.c.id)
    return {
        "paused_at": state.paused_at,
        "paused_reason": state.reason,
        "waiting": [
            waiting_view(row, position, hindrances[row.wanted_device])
            for position, row in enumerate(rows, start=1)
        ],
        "waiting_total": count_waiting(connection) if len(rows) == MOST_WAITING else len(rows),
        "running": runs_by_id(connection, connection.execute(running).scalars().all()),
        "workers": workers,
    }


def first_waiting(connection: Connection) -> Sequence[Row[Any]]:
    """The runs that are trained next, in the order in which they are claimed."""
    c = runs.c
    columns = (c.id, c.name, c.recipe, c.config, c.priority, c.wanted_device, c.created_at)
    progress = (c.step, c.total_steps, c.attempt, c.reason)
    order = (c.priority.desc(), c.place, c.id)
    query: Select[Any] = select(*columns, *progress).where(c.status == Status.QUEUED)
    return connection.execute(query.order_by(*order).limit(MOST_WAITING)).all()


def count_waiting(connection: Connection) -> int:
    waiting = select(func.count()).where(runs.c.status == Status.QUEUED)
    return connection.execute(waiting).scalar_one()


def waiting_view(row: Row[Any], position: int, waits_for: str) -> dict[str, Any]:
    shown = {key: value for key, value in row._mapping.items() if key != "config"}
    tricks = [trick["name"] for trick in row.config["tricks"]]
    return shown | {"tricks": tricks, "position": position, "waits_for": waits_for}


# -- what holds a run up --------------------------------------------------------------------


def hindrances_of(
    connection: Connection, rows: Sequence[Row[Any]], workers: Sequence[Worker]
) -> dict[str, str]:
    """For each device that these runs want: why no living worker can take them, or ""."""
    examples = {row.wanted_device: row.id for row in rows}
    takers: dict[str, list[Worker]] = {wanted: [] for wanted in examples}
    for worker in workers:
        # the queue's own rule, asked of one run per device
        mine = runs.c.id.in_(examples.values()) & for_device(worker["id"], worker["device"])
        for wanted in connection.execute(select(runs.c.wanted_device).where(mine)).scalars():
            takers[wanted].append(worker)
    return {wanted: hindrance(wanted, takers[wanted], workers) for wanted in examples}


def hindrance(wanted: str, takers: Sequence[Worker], workers: Sequence[Worker]) -> str:
    """Why none of those who may take a run does so, or ""."""
    alive = [worker for worker in takers if worker["is_alive"]]
    if any(not worker["trouble"] for worker in alive):
        return ""
    if alive:
        return f"{title(alive[0])} starts nothing: {alive[0]['trouble']}."
    if takers:
        silent = takers[0]
        return (
            f"{title(silent)} gave no sign for {silent['silent_seconds']:,.0f} s; once it counts "
            "as lost, another may take the run."
        )
    if wanted != "auto" and any(worker["is_alive"] for worker in workers):
        return (
            f"No worker works on {wanted}, which its config asks for: start one with "
            f"`tricklab worker --device {wanted}`, or clone the run with another device."
        )
    device = "" if wanted == "auto" else f" --device {wanted}"
    return f"No worker is there: start one with `tricklab worker{device}`."


def title(worker: Worker) -> str:
    return f"Worker {worker['id']} on {worker['device']}"


def pause_in_words(reason: str) -> str:
    because = f" ({reason})" if reason else ""
    return f"The queue is paused{because}: resume it and the run takes its turn."
