"""Commands that ask something of a config and answer it here, without a server."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from app.commands.config_file import Config, read_config
from app.commands.console import Json, cell, out, print_json, say, size
from app.settings import Settings

if TYPE_CHECKING:
    from trainer.inquiries import Inquiry

err = Console(stderr=True)
MARKS = {True: "holds", False: "DOES NOT HOLD", None: "shown"}


def check(config: Config, as_json: Json = False) -> None:
    """Try a few real steps of a config: time, memory, warnings, or why it cannot be trained."""
    from trainer.inquiries import Preflight

    answer = answered(Preflight(config=read_config(config)[0]))
    if as_json:
        print_json(answer)
    elif answer["ok"]:
        out.print(report(answer))
        for warning in answer["warnings"]:
            say(f"Note: {warning}")
    else:
        for line in (answer["reason"], answer.get("explanation"), answer.get("advice")):
            if line:
                say(line)
    if not answer["ok"]:
        raise typer.Exit(1)


def report(answer: Mapping[str, Any]) -> Table:
    """A pre-flight that went well, as rows of name and figure."""
    table = Table(Column(no_wrap=True, style="dim"), Column(), box=None, show_header=False)
    by_activity = answer["seconds_by_activity"].items()
    rows = {
        "device": answer["device"],
        "parameters": f"{answer['parameters']:,}",
        "input": "x".join(map(str, answer["input_shape"])),
        "output": "x".join(map(str, answer["output_shape"])),
        "first step": f"{answer['first_step_seconds']:.3g} s",
        "a step": f"{answer['step_seconds'] * 1000:.3g} ms (of {answer['steps_tried']})",
        "of which": ", ".join(f"{name} {1000 * value:.3g} ms" for name, value in by_activity),
        "examples per second": f"{answer['samples_per_second']:,.0f}",
        "an epoch": f"{answer['epoch_seconds']:.3g} s of training, "
        f"{answer['evaluation_seconds']:.3g} s of evaluation",
        "the whole run": f"{answer['run_seconds']:.3g} s of training, {answer['steps']:,} steps",
        "peak memory": size(answer["peak_memory_bytes"]),
    }
    for name, value in rows.items():
        table.add_row(name, cell(value))
    return table


def prove(
    trick: Annotated[str, typer.Argument(help="Name of a trick; not needed with --all.")] = "",
    config: Config = "digits-cnn",
    every: Annotated[bool, typer.Option("--all", help="Every trick of the catalogue.")] = False,
    as_json: Json = False,
) -> None:
    """Compare one step with and without a trick: errors of loss, gradients and updates."""
    from trainer.inquiries import Equivalence

    chosen = read_config(config)[0]
    answer = answered(Equivalence(config=chosen, trick="all" if every else trick))
    if as_json:
        print_json(answer)
    elif every or len(answer["proofs"]) > 1:
        out.print(lines(answer["proofs"]))
    else:
        for proof in answer["proofs"]:
            out.print(layers_of(proof))
            say(verdict(proof))
    if any(proof["holds"] is False for proof in answer["proofs"]):
        raise typer.Exit(1)


def lines(proofs: list[Mapping[str, Any]]) -> Table:
    """A line for each trick: its class, its error, and whether what it claims holds."""
    error = Column("gradient error", justify="right", no_wrap=True)
    columns = (Column("trick", no_wrap=True), Column("class", no_wrap=True), error, "claim", "")
    table = Table(*columns, box=None, header_style="dim")
    for proof in proofs:
        found = "–" if proof["error"] is None else f"{proof['error']:.2g}"
        mark = MARKS[proof["holds"]] if proof["error"] is not None else "not possible"
        style = "red" if proof["holds"] is False else ""
        table.add_row(
            proof["trick"],
            proof["exactness"],
            found,
            Text(mark, style=style),
            Text(proof["note"], style="dim"),
        )
    return table


def layers_of(proof: Mapping[str, Any]) -> Table:
    """Every comparison of a proof, a row for the whole and for each parameter of the judged one."""
    columns = [Column(name, justify="right") for name in ("loss", "gradient", "update")]
    table = Table("batches", "precision", "layer", *columns, box=None, header_style="dim")
    for one in proof["comparisons"]:
        how = one["precision"] + (", norms in eval" if one["in_eval"] else "")
        batches = "+".join(map(str, one["sizes"]))
        figures = (f"{one[key]:.2g}" for key in ("loss", "gradient", "update"))
        table.add_row(batches, how, Text("all", style="bold"), *figures)
    for name, (gradient, update) in proof["judged"].items():
        table.add_row("", "", cell(name), "", f"{gradient:.2g}", f"{update:.2g}")
    return table


def verdict(proof: Mapping[str, Any]) -> str:
    name, claimed = proof["trick"], proof["exactness"]
    if proof["holds"] is None:
        return f"{name}: {proof['note']}"
    said = "holds" if proof["holds"] else "does not hold"
    most = f"a relative error of the gradient of at most {proof['tolerance']:g}"
    note = f"; {proof['note']}" if proof["note"] else ""
    return f"{name} claims to be {claimed} ({most}): that {said}{note}"


def reproduce(
    config: Config,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps to compare.")] = 20,
    as_json: Json = False,
) -> None:
    """Train the first steps of a config twice and compare every bit."""
    from trainer.inquiries import Reproducibility

    answer = answered(Reproducibility(config=read_config(config)[0], steps=steps))
    if as_json:
        print_json(answer)
    else:
        say(answer["sentence"][0].upper() + answer["sentence"][1:])
        known = answer["conditions"]
        say(
            f"torch {known['torch']}, {known['device_title']}, {known['threads']} threads, tricks: "
            f"{', '.join(known['tricks']) or 'none'}"
        )
        if answer["advice"]:
            say(answer["advice"])
    if not answer["identical"]:
        raise typer.Exit(1)


def answered(inquiry: "Inquiry") -> Mapping[str, Any]:
    """Answer an inquiry in this process, and show on the way how far it is."""
    from app.sources import data_folders
    from trainer.build import choose_device
    from trainer.inquiries import Bench

    device = choose_device(inquiry.device)
    with err.status("") as status:

        def tell(share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
            status.update(Text(f"{share:.0%} {doing}"))

        return inquiry.answer(Bench(device, data_folders(Settings()), tell))
