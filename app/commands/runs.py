"""Commands on runs: hold them, end them, try them again, make others of them, put them away."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.console import Run, Runs, say, writing_lab
from app.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection


def pause(runs: Runs) -> None:
    """Save runs at their next step and free the device; hold back those that wait."""
    from app import queue
    from app.models import Asked

    each(runs, lambda c, n: queue.ask(c, n, Asked.PAUSE), "is paused", "pauses at its next step")


def resume(runs: Runs) -> None:
    """Put paused runs back into the queue, to go on from their checkpoints."""
    from app import queue

    each(runs, queue.resume, "waits to go on")


def cancel(runs: Runs) -> None:
    """End runs at their next step, without a result."""
    from app import queue
    from app.models import Asked

    each(runs, lambda c, n: queue.ask(c, n, Asked.CANCEL), "is cancelled", "ends at its next step")


def retry(
    runs: Runs,
    lighter: Annotated[
        bool,
        typer.Option("--lighter", help="As new runs with half the batch, twice the accumulation."),
    ] = False,
) -> None:
    """Try failed or cancelled runs again, from their last checkpoints."""
    from app import offspring, queue

    if lighter:
        children(runs, offspring.retry_lighter)
    else:
        each(runs, queue.retry, "waits to go on")


def clone(runs: Runs) -> None:
    """Queue new runs with the configs of others."""
    from app import offspring

    children(runs, offspring.clone)


def continue_(
    run: Run,
    epochs: Annotated[int, typer.Option(min=1, help="In addition to those it had.")],
) -> None:
    """Queue a new run that trains a finished one on, from its last checkpoint."""
    from app import offspring

    settings = Settings()
    children([run], lambda c, n: offspring.continue_run(c, settings, n, epochs))


def archive(runs: Runs) -> None:
    """Put runs that are over away: lists leave them out."""
    from app import labels

    each(runs, labels.archive, "is archived")


def unarchive(runs: Runs) -> None:
    """Put archived runs back where lists show them."""
    from app import labels

    each(runs, labels.unarchive, "is back in the lists")


COMMANDS: Sequence[Callable[..., None]] = (
    pause, resume, cancel, retry, clone, archive, unarchive
)  # fmt: skip


def each(
    references: Sequence[str],
    change: "Callable[[Connection, int], Any]",
    done: str,
    asked: str = "",
) -> None:
    """Change every one of these runs or none, and say what came of each.

    `asked` is what to say of a run that trains: it obeys a moment later.
    """
    from app import finding
    from app.models import Status

    with writing_lab(Settings()) as connection:
        numbers = [finding.find(connection, reference) for reference in references]
        for run_id in dict.fromkeys(numbers):
            change(connection, run_id)
        changed = [finding.must_exist(connection, run_id) for run_id in dict.fromkeys(numbers)]
    for run in changed:
        say(f"Run {run.id}, {run.name}, {asked if run.status == Status.RUNNING else done}")


def children(references: Sequence[str], make: "Callable[[Connection, int], int]") -> None:
    """Make a new run of every one of these, or of none."""
    from app import finding

    with writing_lab(Settings()) as connection:
        numbers = [finding.find(connection, reference) for reference in references]
        made = [finding.must_exist(connection, make(connection, run_id)) for run_id in numbers]
    for run in made:
        say(f"Run {run.id}, {run.name}, waits in the queue: made from run {run.parent_id}")
