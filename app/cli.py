"""The command `tricklab`."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from app import commands
from app.commands.config_file import Config, read_config
from app.commands.console import Json, Run, cell, out, print_json, with_flags, without_orders
from app.missing import NotThere
from app.settings import Settings
from trainer.part import Refused

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A local-first lab: which training tricks help on your model, your data, your GPU?",
)
err = Console(stderr=True)

Device = Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:0.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    worker: Annotated[bool, typer.Option(help="Keep a worker beside the server.")] = True,
    device: Device = "auto",
) -> None:
    """Serve the pages and the API, with one worker beside."""
    from app.server import must_be_trusted
    from app.server import serve as run_server

    settings = with_flags(host=host, port=port)
    must_be_trusted(settings)
    migrate_database(settings)
    say_where(settings)
    run_server(settings, worker_device=device if worker else None)


@app.command()
def demo(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    device: Device = "auto",
) -> None:
    """Queue the sample comparison, once, and serve."""
    from app.samples import add_samples_once
    from app.server import must_be_trusted
    from app.server import serve as run_server

    settings = with_flags(host=host, port=port)
    must_be_trusted(settings)
    engine = migrate_database(settings)
    samples = add_samples_once(engine)
    if samples:
        out.print(f"Queued the sample comparison: runs {', '.join(map(str, samples))}")
    else:
        out.print("This lab has runs already; nothing was queued")
    say_where(settings)
    run_server(settings, worker_device=device)


@app.command()
def worker(
    device: Device = "auto",
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="End when this is no longer the parent process.")
    ] = None,
) -> None:
    """Train queued runs on one device."""
    from app.executors import fork_server

    fork_server.begin()
    from app.worker import run_worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    run_worker(Settings(), device, parent=parent)


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    settings = Settings()
    migrate_database(settings).dispose()
    out.print(f"{shown_url(settings)} has the newest schema", highlight=False)


@app.command()
def backup(
    to: Annotated[
        Path | None, typer.Option(help="A new file, or a folder; else the lab's own backups.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy the database, verified, while everything goes on."""
    from app.backup import make_backup

    made = make_backup(Settings(), to)
    if as_json:
        print_json(asdict(made) | {"path": str(made.path)})
        return
    size = f"{made.bytes / 1e6:,.1f} MB in {made.seconds:.1f} s"
    words = f"schema {made.schema}, {made.runs} runs, {size}"
    out.print(f"{made.path} is a sound backup: {words}", highlight=False, soft_wrap=True)


@app.command()
def restore(file: Annotated[Path, typer.Argument(help="A backup.")]) -> None:
    """Put a backup in place of the database, which is kept; for a lab where nothing runs."""
    from app.restore import restore as put_back

    done = put_back(Settings(), file)
    words = f"{done.path} is restored: schema {done.schema}, {done.runs} runs"
    kept = f"; what it was before is {done.replaced}" if done.replaced else ""
    out.print(words + kept, highlight=False, soft_wrap=True)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Examine the lab and this machine; changes nothing. Fails when something is bad."""
    from app.doctor import Verdict, examine

    found = examine(Settings())
    if as_json:
        print_json([asdict(finding) for finding in found])
    for finding in () if as_json else found:
        styles = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.BAD: "red"}
        line = Text(f"{finding.verdict:8}", style=styles[finding.verdict])
        line.append(f"{finding.name}: {finding.words}", style="default")
        out.print(line, highlight=False, soft_wrap=True)
        if finding.way_out:
            out.print(Text(f"{'':8}-> {finding.way_out}", style="dim"), soft_wrap=True)
    if any(finding.verdict == Verdict.BAD for finding in found):
        raise typer.Exit(1)


@app.command()
def train(
    config: Config,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "",
    device: Annotated[str | None, typer.Option(help="Overrides the config's device.")] = None,
) -> None:
    """Train one run here and now, without a server."""
    from app.training_here import train_here

    chosen, recipe_name = read_config(config)
    if device:
        chosen = chosen.model_copy(update={"device": device})
        chosen = type(chosen).model_validate(chosen.model_dump())
    settings = Settings()
    engine = migrate_database(settings)
    if not train_here(engine, settings, chosen, name=name, recipe=recipe_name, console=err):
        raise typer.Exit(1)


@app.command()
def recipes() -> None:
    """List the ready-made configs."""
    from trainer.recipes import RECIPES

    columns = (Column("recipe", no_wrap=True), "what it is", "what it is for")
    table = Table(*columns, box=None, header_style="dim")
    for recipe_name, recipe in RECIPES.items():
        table.add_row(recipe_name, recipe.title, recipe.purpose)
    out.print(table)


@app.command()
def models(as_json: Json = False) -> None:
    """List the networks, with how many parameters they have for what."""
    from app.catalogue import KINDS, describe

    found = [describe(model) for model in KINDS["model"]]
    if as_json:
        print_json(found)
        return
    columns = (Column("model", no_wrap=True), "what", Column("parameters", justify="right"), "for")
    table = Table(*columns, box=None, header_style="dim")
    for model in found:
        for number, size in enumerate(model["sizes"]):
            name, what = (model["name"], model["title"]) if number == 0 else ("", size["title"])
            shape = "x".join(map(str, size["input_shape"]))
            told = f"{size['task'] or 'its paper'}: {shape}, {size['outputs']} outputs"
            table.add_row(name, what, f"{size['parameters']:,}", told)
    out.print(table)


@app.command()
def runs(
    status: Annotated[str, typer.Option(help="Only runs with this status.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    from app.models import Status
    from app.run_query import RunQuery
    from app.run_view import list_runs
    from trainer.store.database import reading

    if status and status not in set(Status):
        raise Refused(f"there is no status {status!r}; there are {', '.join(Status)}")
    query = RunQuery(status=Status(status) if status else None, limit=limit)
    with reading(migrate_database(Settings())) as connection:
        found = list_runs(connection, query)
    if as_json:
        print_json(found)
        return
    name = Column("name", no_wrap=True)
    columns = ("run", name, "status", "step", "score", "seconds", "reason")
    table = Table(*columns, box=None, header_style="dim")
    for run in found:
        table.add_row(*map(shown, in_columns(run)))
    out.print(table)


@app.command()
def show(run: Run) -> None:
    """Print all that is known of a run, as JSON."""
    from app.run_view import find_run
    from trainer.store.database import reading

    with reading(migrate_database(Settings())) as connection:
        print_json(find_run(connection, run))


@app.command()
def stop(
    run: Run,
    cancel: Annotated[bool, typer.Option(help="Drop it instead of concluding it.")] = False,
) -> None:
    """End a run at its next step: evaluated and finished, or cancelled."""
    from app import finding, queue
    from app.models import Asked
    from trainer.store.database import writing

    with writing(migrate_database(Settings())) as connection:
        run_id = finding.find(connection, run)
        queue.ask(connection, run_id, Asked.CANCEL if cancel else Asked.STOP)
    out.print(f"Run {run_id} was asked to {'cancel' if cancel else 'stop'}")


commands.register(app)


def migrate_database(settings: Settings) -> Any:
    from app.db import open_database

    return open_database(settings)


def say_where(settings: Settings) -> None:
    """Print the address; one that logs a browser in, unless there is a TRICKLAB_TOKEN for that."""
    from app.commands.access import address, login_address

    is_open = settings.access == "off" or settings.token is not None
    where = address(settings) if is_open else login_address(settings)
    out.print(f"Tricklab: {where}", highlight=False, soft_wrap=True)


def shown_url(settings: Settings) -> str:
    from sqlalchemy import make_url

    return make_url(settings.database_url).render_as_string(hide_password=True)


def in_columns(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """A run as a row of the list: number, name, status, step, main metric, seconds, reason."""
    score = run["metrics"].get(run["main_metric"], {}).get("last")
    seconds = run["train_seconds"]
    return run["id"], run["name"], run["status"], run["step"], score, seconds, run["reason"]


def shown(value: Any) -> Text:
    """A cell; as plain text, as the table would take brackets in a name for a style."""
    if value is None:
        return Text()
    return cell(f"{value:.4g}" if isinstance(value, float) else value)


def main() -> None:
    """The entry point: refusals and bad configs are told in a line each, not as a traceback."""
    try:
        app()
    except (Refused, NotThere) as refusal:
        complaints = [str(refusal)]
    except ValidationError as invalid:
        complaints = [
            f"{'.'.join(map(str, error['loc'])) or 'config'}: {error['msg']}"
            for error in invalid.errors()
        ]
    else:
        return
    for complaint in complaints:
        # never wrapped, so that each stays one line in a log or a pipe
        text = Text(f"tricklab: {without_orders(complaint)}", style="red")
        err.print(text, highlight=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
