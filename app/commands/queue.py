"""Commands on the queue: what comes next and what holds it up, its order, and its pause."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from app.commands.console import (
    Json,
    Run,
    cell,
    named,
    out,
    print_json,
    reading_lab,
    say,
    writing_lab,
)
from app.settings import Settings

app = typer.Typer(help="Show what waits in which order; pause, resume and reorder it.")
MOST_SHOWN = 50


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show what waits in which order and for what; or, with a command, change that."""
    if context.invoked_subcommand is not None:
        return
    from app.queue_view import queue_view

    settings = Settings()
    with reading_lab(settings) as connection:
        queue = queue_view(connection, settings)
    if as_json:
        print_json(queue)
        return
    if queue["paused_at"] is not None:
        say(f"Paused since {moment(queue['paused_at'])} {queue['paused_reason']}".rstrip())
    for run in queue["running"]:
        say(f"Run {run['id']}, {run['name']}, trains: step {run['step']}, {run['activity']}")
    print_waiting(queue["waiting"], queue["waiting_total"])


@app.command()
def pause(
    running: Annotated[
        bool, typer.Option("--running", help="Those that train save themselves and wait again.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Shown to whoever wonders.")] = "",
) -> None:
    """Give out no more runs."""
    from app import order

    with writing_lab(Settings()) as connection:
        asked = order.pause_queue(connection, running_too=running, reason=reason)
    say("The queue is paused")
    if asked:
        say(f"{named(asked)} will be saved at the next step and wait again")


@app.command()
def resume() -> None:
    """Give out runs again."""
    from app import order

    with writing_lab(Settings()) as connection:
        order.resume_queue(connection)
    say("The queue goes on")


@app.command()
def move(
    run: Run, position: Annotated[int, typer.Argument(min=1, help="1 is trained next.")]
) -> None:
    """Put a waiting run at a place in the queue."""
    from app import finding, order

    with writing_lab(Settings()) as connection:
        run_id = finding.find(connection, run)
        order.move(connection, run_id, position - 1)
        numbers = [row.id for row in order.waiting_runs(connection)]
    say(f"Run {run_id} is number {numbers.index(run_id) + 1} of {len(numbers):,}")


# a negative number is no option
@app.command(context_settings={"ignore_unknown_options": True})
def priority(
    run: Run,
    value: Annotated[int, typer.Argument(help="From -1000 to 1000; higher ones go first.")],
) -> None:
    """Give a waiting run another priority."""
    from app import finding, order

    with writing_lab(Settings()) as connection:
        run_id = finding.find(connection, run)
        order.prioritise(connection, run_id, value)
    say(f"Run {run_id} has priority {value}")


def print_waiting(waiting: Sequence[Mapping[str, Any]], total: int) -> None:
    if not total:
        say("Nothing waits")
        return
    name = Column("name", no_wrap=True)
    table = Table("", "run", name, "priority", "device", "step", box=None, header_style="dim")
    for run in waiting[:MOST_SHOWN]:
        columns = ("position", "id", "name", "priority", "wanted_device", "step")
        table.add_row(*(cell(run[column]) for column in columns))
    out.print(table)
    if total > MOST_SHOWN:
        say(f"and {total - MOST_SHOWN:,} more")
    for sentence, numbers in by_hindrance(waiting).items():
        say(f"{named(numbers)}: {sentence}")


def by_hindrance(waiting: Sequence[Mapping[str, Any]]) -> Mapping[str, Sequence[int]]:
    """What holds runs up, and which: said once, as it is mostly the same for all."""
    found: dict[str, list[int]] = defaultdict(list)
    for run in waiting:
        if run["waits_for"]:
            found[run["waits_for"]].append(run["id"])
    return found


def moment(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
