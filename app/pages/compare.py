"""ComparePage: several runs side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from app import finding
from app.config_view import config_rows
from app.connections import Reading
from app.metrics import metric, title
from app.missing import NotThere
from app.pages.templates import render
from app.run_view import runs_by_id

router = APIRouter()

MOST_RUNS = 200


@dataclass(frozen=True)
class Outcome:
    """One measure of every compared run, with its difference to the baseline's."""

    title: str
    shown_as: str
    """The template filter that writes it."""
    lower_is_better: bool
    values: tuple[float | None, ...]
    differences: tuple[float | None, ...]
    best: float | None


MEASURES = {
    "train_seconds": ("Training time", "duration", True),
    "samples_per_second": ("Examples per second", "number", False),
    "peak_memory_bytes": ("Peak memory", "size", True),
}


@dataclass(frozen=True)
class Compared:
    """What the address says of the page."""

    references: tuple[str, ...]
    baseline: int | None
    everything: bool
    chosen: Mapping[str, Any]


async def compared(
    runs: Annotated[list[str], Query(max_length=MOST_RUNS)] = [],  # noqa: B006
    baseline: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    everything: bool = False,
    smoothing: Annotated[float, Query(ge=0, lt=1)] = 0,
    x: Annotated[str, Query(pattern="^(step|epoch|time)$")] = "step",
    scale: Annotated[str, Query(pattern="^(linear|log)$")] = "linear",
) -> Compared:
    """Runs by number or name: ticked boxes send several, a short address has commas."""
    references = tuple(part for text in runs for part in text.split(",") if part)
    if len(references) > MOST_RUNS:
        raise NotThere(f"at most {MOST_RUNS} runs can be compared; these are {len(references)}")
    chosen = {"smoothing": smoothing, "x": x, "scale": scale}
    return Compared(references, baseline, everything, chosen)


Wanted = Annotated[Compared, Depends(compared)]


@router.get("/compare")
def page(request: Request, connection: Reading, wanted: Wanted) -> HTMLResponse:
    """Curves overlaid, the results, and the rows of the configs that differ."""
    return show(request, connection, wanted, "compare.html")


@router.get("/compare/legend")
def legend(request: Request, connection: Reading, wanted: Wanted) -> HTMLResponse:
    return show(request, connection, wanted, "compare/legend.html")


@router.get("/compare/results")
def results(request: Request, connection: Reading, wanted: Wanted) -> HTMLResponse:
    return show(request, connection, wanted, "compare/results.html")


def show(request: Request, connection: Connection, wanted: Compared, template: str) -> HTMLResponse:
    ids = [finding.find(connection, reference) for reference in wanted.references]
    found = runs_by_id(connection, list(dict.fromkeys(ids)))
    base = next((i for i, run in enumerate(found) if run["id"] == wanted.baseline), 0)
    return render(
        request,
        template,
        runs=found,
        baseline=base,
        outcomes=outcomes(found, base) if found else [],
        rows=config_rows([run["config"] for run in found]),
        everything=wanted.everything,
        cards=compared_cards(found),
        chosen=wanted.chosen,
    )


def compared_cards(runs: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """The curves that are overlaid: losses and main metrics, test before training."""
    names = ["val_loss", *dict.fromkeys(run["main_metric"] for run in runs), "train_loss"]
    if any("train_accuracy" in run["metrics"] for run in runs):
        names.append("train_accuracy")
    return [(name, title(name)) for name in names]


def outcomes(runs: Sequence[dict[str, Any]], baseline: int) -> list[Outcome]:
    """The measures that any of these runs has."""
    found = []
    for name, (named, shown_as, lower) in {**scores(runs), **MEASURES}.items():
        values = tuple(measured(run, name) for run in runs)
        known = [value for value in values if value is not None]
        if not known:
            continue
        found.append(
            Outcome(
                named,
                shown_as,
                lower,
                values,
                differences(values, values[baseline]),
                min(known) if lower else max(known),
            )
        )
    return found


def scores(runs: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str, bool]]:
    """What these runs are scored by: the best and last of their main metrics, then the rest."""
    main = list(dict.fromkeys(run["main_metric"] for run in runs))
    recorded = {name for run in runs for name in run["result"] or {} if name.startswith("val_")}
    named = {f"best_{name}": (f"Best {lowered(title(name))}", *written(name)) for name in main}
    for name in [*main, "val_loss", *sorted(recorded - {*main, "val_loss"})]:
        named[name] = (f"Last {lowered(title(name))}", *written(name))
    return named


def lowered(text: str) -> str:
    return text[0].lower() + text[1:]


def written(name: str) -> tuple[str, bool]:
    return metric(name).shown_as, metric(name).is_lower_better


def measured(run: dict[str, Any], name: str) -> float | None:
    """A result as a finite number; None where there is none."""
    value = (run["result"] or {}).get(name)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def differences(values: Sequence[float | None], base: float | None) -> tuple[float | None, ...]:
    return tuple(None if value is None or base is None else value - base for value in values)
