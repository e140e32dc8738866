"""Commands that ask something of a config and answer it here, without a server."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from app.commands.config_file import Config, read_config
from app.commands.console import Json, cell, counted, out, print_json, say, size
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
        told = [f"{one['field']}: {one['message']}" for one in answer["problems"]]
        blamed = f"{answer['field']}: " if answer["field"] and not told else ""
        for line in (
            *(told or [blamed + answer["reason"]]),
            answer.get("explanation"),
            answer.get("advice"),
        ):
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
        out.print(Text(f"{'trick':24} {'class':10} {'error':>8}  claim", style="dim"))
        for proof in answer["proofs"]:
            out.print(line_of(proof), highlight=False, soft_wrap=True)
    else:
        for proof in answer["proofs"]:
            print_proof(proof)
    if any(proof["holds"] is False for proof in answer["proofs"]):
        raise typer.Exit(1)


def print_proof(proof: Mapping[str, Any]) -> None:
    if proof["judged"]:
        out.print(comparisons_of(proof))
        out.print(layers_of(proof["judged"]))
    if proof["running_statistics"]:
        out.print(statistics_of(proof))
    say(verdict(proof))


def line_of(proof: Mapping[str, Any]) -> Text:
    """A trick in one line: its class, its error, and whether what it claims holds."""
    mark = MARKS[proof["holds"]] if proof["judged"] else "not possible"
    if proof["but_for"]:
        mark += f" but for {' and '.join(proof['but_for'])}"
    elif proof["note"]:
        mark += f": {proof['note']}"
    where = f" (with {proof['recipe']})" if proof["recipe"] else ""
    known = f"{proof['trick']:24} {proof['exactness']:10} {figure(proof['error']):>8}"
    return Text(f"{known}  {mark}{where}", style="red" if proof["holds"] is False else "")


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def comparisons_of(proof: Mapping[str, Any]) -> Table:
    """Every comparison of a proof in a row."""
    names = ("loss", "gradient", "update", "cosine")
    columns = [Column(name, justify="right") for name in names]
    table = Table("batches", "precision", *columns, box=None, header_style="dim")
    for one in proof["comparisons"]:
        how = one["precision"] + (", in eval" if one["in_eval"] else "")
        errors = (figure(one[key]) for key in names[:3])
        table.add_row(batches_of(one), how, *errors, f"{one['cosine']:.5f}")
    return table


def layers_of(judged: Mapping[str, Any]) -> Table:
    """Every parameter of a comparison in a row."""
    columns = [Column(name, justify="right") for name in ("gradient", "update")]
    table = Table("layer", *columns, box=None, header_style="dim")
    for name, (gradient, update) in judged["layers"].items():
        table.add_row(cell(name), figure(gradient), figure(update))
    return table


def batches_of(comparison: Mapping[str, Any]) -> str:
    """The sizes of its batches, with the trick and without: 3x64+33 : 225."""
    with_it, without = map(counted_sizes, (comparison["sizes"], comparison["sizes_without"]))
    return with_it if with_it == without else f"{with_it} : {without}"


def counted_sizes(sizes: Sequence[int]) -> str:
    counts = Counter(sizes).items()
    return "+".join(str(size) if count == 1 else f"{count}x{size}" for size, count in counts)


def statistics_of(proof: Mapping[str, Any]) -> Table:
    """How well batch norm remembers with the small batches what it would with the large ones."""
    columns = [Column(name, justify="right") for name in ("momentum", "mean", "variance")]
    table = Table("running statistics by", *columns, box=None, header_style="dim")
    for one in proof["running_statistics"]:
        figures = (f"{one['momentum']:.4g}", figure(one["mean"]), figure(one["variance"]))
        table.add_row(cell(one["rule"]), *figures)
    return table


def verdict(proof: Mapping[str, Any]) -> str:
    name, claimed = proof["trick"], proof["exactness"]
    if proof["holds"] is None:
        return f"{name}: {proof['note']}"
    said = "holds" if proof["holds"] else "does not hold"
    if proof["but_for"]:
        said += f" but for {' and '.join(proof['but_for'])}"
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
        tricks = ", ".join(known["tricks"]) or "none"
        threads = counted(known["threads"], "thread")
        say(f"torch {known['torch']}, {known['device_title']}, {threads}, tricks: {tricks}")
        if answer["difference"]:
            say(answer["difference"]["size"])
            say(answer["advice"])
    if not answer["identical"]:
        raise typer.Exit(1)


def answered(inquiry: "Inquiry") -> Mapping[str, Any]:
    """Have an inquiry answered by a process of its own, and show on the way how far it is."""
    from app.executors import fork_server

    # it loads torch while this process does
    fork_server.begin()
    from app.inquiries.here import answer_here

    with err.status("") as status:

        def tell(share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
            status.update(Text(f"{share:.0%} {doing}"))

        return answer_here(inquiry, Settings(), tell)
