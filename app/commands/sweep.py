"""The command that measures loader processes: how many pay, for which batch sizes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from app.commands.config_file import Config, read_config
from app.commands.console import Json, cell, out, print_json, say, size
from app.settings import Settings
from trainer.part import Refused

if TYPE_CHECKING:
    from trainer.inquiries import LoaderSweep, Tell


def sweep(
    config: Config,
    workers: Annotated[str, typer.Option(help="Numbers of loader processes.")] = "0,1,2,4",
    batch_sizes: Annotated[str, typer.Option(help="Else the config's own.")] = "",
    seconds: Annotated[float, typer.Option(help="For each measurement.")] = 1.0,
    training: Annotated[bool, typer.Option(help="Train too, or only load.")] = True,
    device: Annotated[str, typer.Option(help="Overrides the config's device.")] = "",
    as_json: Json = False,
) -> None:
    """Measure here and now how fast batches come with more or fewer loader processes."""
    from app.devices import DeviceLock, device_name
    from app.sources import data_folders
    from trainer.build import choose_device
    from trainer.inquiries import Bench, LoaderSweep

    chosen, _ = read_config(config)
    wanted = LoaderSweep(
        config=chosen,
        workers=numbers("workers", workers),
        batch_sizes=numbers("batch-sizes", batch_sizes),
        seconds=seconds,
        with_training=training,
    )
    settings, on = Settings(), device or chosen.device
    err = Console(stderr=True)
    name = device_name(on)
    if not DeviceLock(settings.folder, name).is_free():
        err.print(f"A worker holds {name} too: these figures will be off.", style="yellow")
    with shown_progress(err) as tell:
        answer = wanted.answer(Bench(choose_device(on), data_folders(settings), tell))
    if as_json:
        print_json(answer)
    else:
        print_answer(answer, wanted)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    parts = [part for part in text.replace(",", " ").split() if part]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise Refused(f"--{option} takes whole numbers such as 0,1,2, not {text!r}")
    return tuple(map(int, parts))


@contextmanager
def shown_progress(console: Console) -> Iterator["Tell"]:
    """Says in a terminal what is being measured; elsewhere nothing."""
    with console.status("Reading the examples") as status:

        def tell(share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
            status.update(f"{share:.0%}: {doing}")

        yield tell


def print_answer(answer: Mapping[str, Any], wanted: "LoaderSweep") -> None:
    right = [
        Column(title, justify="right")
        for title in ("loads/s", "first batch", "memory", "trains/s", "waits")
    ]
    table = Table("batch", Column("workers", no_wrap=True), *right, box=None, header_style="dim")
    knees = {(knee["batch_size"], knee["workers"]) for knee in answer["knees"]}
    for row in answer["rows"]:
        workers = "none, they stay" if row["is_resident"] else str(row["workers"])
        is_knee = not row["is_resident"] and (row["batch_size"], row["workers"]) in knees
        figures = [row["problem"]] if row["problem"] else list(in_words(row))
        table.add_row(str(row["batch_size"]), workers + " *" * is_knee, *map(cell, figures))
    out.print(table)
    say("loads/s and trains/s: examples a second. *: the fewest workers within 5 % of the best")
    cores = f"{answer['cores']} cores, {answer['threads']} threads, torch {answer['torch']}"
    say(f"{wanted.config.task.title} on {answer['device']}, {cores}")
    say(answer["verdict"])


def in_words(row: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a row, in columns."""
    yield f"{row['loaded_per_second']:,.0f}"
    yield f"{1000 * row['first_batch_seconds']:,.0f} ms"
    yield "" if row["loader_memory_bytes"] is None else size(row["loader_memory_bytes"])
    if row["trained_per_second"] is not None:
        yield f"{row['trained_per_second']:,.0f}"
        yield f"{100 * row['waiting_share']:.1f} %"
