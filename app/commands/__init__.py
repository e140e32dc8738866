"""The commands that steer runs, the queue and the storage; one module per noun."""

import typer

from app.commands import queue, runs, storage


def register(app: typer.Typer) -> None:
    """Make these commands part of `tricklab`."""
    for command in runs.COMMANDS:
        app.command()(command)
    app.command("continue")(runs.continue_)
    app.add_typer(queue.app, name="queue")
    app.add_typer(storage.app, name="storage")
