"""Commands on the storage: what the lab takes on its disk, and giving some of it back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from app.commands.console import Json, cell, counted, lab, out, print_json, reading_lab, say, size
from app.settings import Settings
from trainer.part import Refused

app = typer.Typer(help="Show what the lab takes on its disk; clean some of it up.")

PARTS = {
    "database_bytes": "database",
    "layer_outputs": "  layer outputs",
    "logs": "  logs",
    "checkpoints": "checkpoints",
    "datasets": "data sets",
    "backups": "backups",
    "left_overs": "left-over files",
    "ballast_bytes": "ballast",
}


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    largest: Annotated[int, typer.Option(min=0, max=1000, help="How many runs to name.")] = 10,
    as_json: Json = False,
) -> None:
    """Show what everything takes, and the largest runs; or, with a command, clean up."""
    if context.invoked_subcommand is not None:
        return
    from app.storage import usage

    settings = Settings()
    with reading_lab(settings) as connection:
        found = usage(connection, settings, largest)
    if as_json:
        print_json(found)
        return
    say(f"{found['folder']}: {size(found['free_bytes'])} free")
    if found["trouble"]:
        say(found["trouble"])
    print_parts(found)
    print_largest(found)


@app.command()
def clean(
    what: Annotated[str, typer.Argument(help="old-checkpoints, archived-runs or left-over-files.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what is safe to delete; nothing of a run that waits, trains or is paused."""
    from app import cleaning

    if what not in set(cleaning.Cleaning):
        raise Refused(f"there is no clean-up {what!r}; there are {', '.join(cleaning.Cleaning)}")
    settings = Settings()
    with lab(settings) as engine:
        freed = cleaning.clean(engine, settings, cleaning.Cleaning(what), dry_run=dry_run)
    if as_json:
        print_json(asdict(freed))
        return
    say(
        f"{'Would delete' if dry_run else 'Deleted'} {counted(freed.files, 'file')} of "
        f"{counted(freed.runs, 'run')}: {size(freed.bytes)} on the disk"
    )
    if freed.database_bytes:
        say(f"and {size(freed.database_bytes)} inside the database, for what is recorded next")


def print_parts(found: Mapping[str, Any]) -> None:
    table = Table(Column("", no_wrap=True), Column("", justify="right"), "", show_header=False)
    table.box = None
    for key, title in PARTS.items():
        part = found[key]
        if isinstance(part, int):
            table.add_row(title, size(part), "")
            continue
        more = "" if part["is_complete"] else " and more"
        table.add_row(title, size(part["bytes"]), f"{part['count']:,}{more}")
    out.print(table)


def print_largest(found: Mapping[str, Any]) -> None:
    if not found["largest"]:
        return
    columns = (
        Column("run"),
        Column("name", no_wrap=True),
        Column("status"),
        Column("checkpoints", justify="right"),
        Column("layer outputs", justify="right"),
    )
    table = Table(*columns, box=None, header_style="dim")
    for run in found["largest"]:
        status = f"{run['status']}, archived" if run["archived_at"] else run["status"]
        sizes = size(run["checkpoint_bytes"]), size(run["layer_output_bytes"])
        table.add_row(str(run["id"]), cell(run["name"]), status, *sizes)
    out.print(table)
