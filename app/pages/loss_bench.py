"""LossBenchPage: a loss of PyTorch on a few numbers, all of it in the address."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.forms import Input
from app.missing import missing
from app.pages.loss_tables import element_rows, number_tables
from app.pages.templates import render
from app.part_form import PartForm, part_form
from trainer.lessons.shown import Chart, HeatMap, Line, Mark, figure
from trainer.loss_bench import BENCH_LOSSES, PRESETS, BenchLoss, Found, Preset, Unfit, find
from trainer.loss_bench.curve import Curve, curve, surface
from trainer.loss_bench.put_in import put_in
from trainer.loss_bench.remarks import remarks
from trainer.loss_bench.resizing import resized
from trainer.part import name_of

router = APIRouter()

ADDRESS = "/lab/loss"
NUMBERS = ("input", "target")
OLD_FLAGS = ("size_average", "reduce")


@dataclass(frozen=True)
class Bench:
    """What the address asks for: a loss with what was typed, and what came of it or the errors."""

    loss: type[BenchLoss]
    form: PartForm[BenchLoss]
    at: int
    found: Found | None
    errors: Mapping[str, str] = field(default_factory=dict)

    def typed(self, name: str) -> str:
        return next(self.form.value(one) for one in self.form.inputs if one.name == name)

    @property
    def arguments(self) -> Sequence[Input]:
        """The fields beside the numbers themselves."""
        return [one for one in self.form.inputs if one.name not in (*NUMBERS, *OLD_FLAGS)]

    @property
    def old_flags(self) -> Sequence[Input]:
        return [one for one in self.form.inputs if one.name in OLD_FLAGS]

    @property
    def has_old_flags(self) -> bool:
        return any(self.form.value(one) for one in self.old_flags)

    def address(self, **changes: str) -> str:
        """Where the same is seen again, with only what is not as it would be anyway."""
        typed = {
            one.name: self.form.value(one)
            for one in self.form.inputs
            if one.name in NUMBERS or self.form.value(one) != one.default
        }
        at = {"at": str(self.at)} if self.at else {}
        return f"{ADDRESS}?{urlencode({'loss': name_of(self.loss), **typed, **at, **changes})}"

    def address_of(self, other: type[BenchLoss]) -> str:
        """Another loss: on the same numbers where it takes such, else on numbers of its own."""
        if other.family == self.loss.family and other.inputs_are == self.loss.inputs_are:
            numbers = {name: self.typed(name) for name in NUMBERS}
            return f"{ADDRESS}?{urlencode({'loss': name_of(other), **numbers})}"
        return f"{ADDRESS}?loss={name_of(other)}"


def bench_of(query: Mapping[str, str]) -> Bench:
    loss = loss_named(query.get("loss", name_of(BENCH_LOSSES[0])))
    form: PartForm[BenchLoss] = part_form(loss, query)
    at = position(query.get("at", ""))
    if form.part is None:
        return Bench(loss, form, at, None, form.errors)
    try:
        found = find(form.part, at)
    except Unfit as unfit:
        return Bench(loss, form, at, None, {unfit.field: str(unfit)})
    return Bench(loss, form, found.at, found)


def position(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


def loss_named(name: str) -> type[BenchLoss]:
    """Raises NotThere with the names there are."""
    for loss in BENCH_LOSSES:
        if name_of(loss) == name:
            return loss
    raise missing("loss", name, map(name_of, BENCH_LOSSES))


@router.get(ADDRESS)
def page(request: Request) -> Response:
    """The bench with everything the address has, complete without a script."""
    query = dict(request.query_params)
    if change := query.pop("resize", None):
        return RedirectResponse(resized_address(bench_of(query), change), 303)
    return render(request, "lab/loss.html", **shown(bench_of(query)))


@router.get(f"{ADDRESS}/result")
def result(request: Request) -> HTMLResponse:
    """What changes on the page when a number does."""
    return render(request, "lab/loss_result.html", **shown(bench_of(dict(request.query_params))))


def resized_address(bench: Bench, change: str) -> str:
    """The same with a row or column more or less; as it is where the numbers cannot be read."""
    texts = resized(bench.loss, bench.typed("input"), bench.typed("target"), change)
    return bench.address(**texts)


def shown(bench: Bench) -> dict[str, Any]:
    """What both templates need."""
    return {
        "bench": bench,
        "losses": BENCH_LOSSES,
        "name_of": name_of,
        "presets": PRESETS,
        "preset_address": preset_address,
        "tables": number_tables(bench.loss, bench.typed("input"), bench.typed("target")),
    } | (seen(bench.found) if bench.found else {})


def preset_address(preset: Preset) -> str:
    return f"{ADDRESS}?{urlencode({'loss': preset.loss, **preset.values})}"


def seen(found: Found) -> dict[str, Any]:
    line = curve(found)
    return {
        "found": found,
        "remarks": remarks(found),
        "at": put_in(found),
        "curve": line,
        "figures": figures(found, line),
        "rows": element_rows(found),
    }


def figures(found: Found, line: Curve) -> list[dict[str, Any]]:
    """Loss, slope and, of cross-entropy, the surface, each with the cells that its mark moves."""
    x_title = f"input{found.place}"
    loss = Chart(
        "Loss of the element",
        x_title,
        "loss",
        [Line("loss", line.x, line.loss)],
        marks=[Mark("now", line.at, line.loss_there)],
    )
    slope = Chart(
        "Its gradient, before any reduction",
        x_title,
        "gradient",
        [Line("gradient", line.x, line.slope)],
        marks=[Mark("now", line.at, line.slope_there)],
    )
    drawn = [
        {"key": "loss", "x": found.at, "y": None, "figure": figure(loss)},
        {"key": "slope", "x": found.at, "y": None, "figure": figure(slope)},
    ]
    if over := surface(found):
        across, up = (f"score of class {one}" for one in over.classes)
        title = "Loss over two scores of the place"
        marks = [Mark("now", *over.at)]
        heat = HeatMap(title, across, up, "loss", over.x, over.y, over.values, marks)
        other = found.at + (over.classes[1] - over.classes[0]) * (
            found.input.shape[2:].numel() if found.input.dim() > 2 else 1
        )
        drawn.append({"key": "surface", "x": found.at, "y": other, "figure": figure(heat)})
    return drawn
