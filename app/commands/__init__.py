"""The commands on runs, the queue, the storage, proofs and who may come in; one module per noun."""

import typer

from app.commands import access, inquiries, queue, runs, storage, sweep


def register(app: typer.Typer) -> None:
    """Make these commands part of `tricklab`."""
    for command in runs.COMMANDS:
        app.command()(command)
    app.command()(inquiries.check)
    app.command()(inquiries.prove)
    app.command()(inquiries.reproduce)
    app.command("continue")(runs.continue_)
    app.command()(sweep.sweep)
    app.command()(access.login)
    app.command()(access.audit)
    app.add_typer(access.app, name="token")
    app.add_typer(queue.app, name="queue")
    app.add_typer(storage.app, name="storage")
