"""Templates: the Jinja environment of the pages, with how numbers and times are written."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.access.roles import actor
from app.assets import asset
from app.batches_view import batch_figures, batch_remarks, picture_address
from app.forms import Input
from app.metrics import metric, title
from app.pages.markdown import markdown
from app.settings import ROOT
from app.sweep_chart import sweep_chart

CODE = re.compile("`([^`]+)`")
RUN_COLOURS = 10
"""How many colours the cycle of run colours has; see static/style.css."""


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits; non-finite ones by name, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{int(value):,}".replace(",", " ")
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def share(value: Any) -> str:
    """A share of 1 as a percentage with two decimals."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return number(value)
    return f"{value * 100:.2f} %"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 3 min 12 s."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def size(count: float | None) -> str:
    """Bytes in SI units."""
    if count is None or not math.isfinite(count):
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{number(float(count))} {unit}"
        count /= 1000
    return f"{number(float(count))} TB"


def amount(count: float | None) -> str:
    """A count with an SI prefix: 36.9 G."""
    if count is None:
        return "–"
    for prefix in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{number(count if not prefix else float(count))} {prefix}".rstrip()
        count /= 1000
    return f"{number(float(count))} P"


def moment(at: float | None) -> Markup:
    """A Unix time as how long ago it was, with the full date to hover over."""
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(stamp(at), full(at), ago(at))


def exact_moment(at: float) -> Markup:
    """A Unix time as its full date."""
    return Markup('<time datetime="{}">{}</time>').format(stamp(at), full(at))


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def full(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def ago(at: float) -> str:
    passed = time.time() - at
    if passed < 45:
        return "just now"
    for length, unit in ((60, "min"), (3600, "h"), (86_400, "d")):
        if passed < length * {"min": 60, "h": 24, "d": 30}[unit]:
            return f"{round(passed / length)} {unit} ago"
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d")


def marked(text: str) -> Markup:
    """Words for people, with what stands between backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


def colour(run_id: int) -> int:
    """The place of a run in the colour cycle, the same everywhere and for ever."""
    return run_id % RUN_COLOURS


def told(value: Any) -> str:
    """A value of a config or of evidence in words."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {told(each)}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell(value: Any) -> str:
    """A value in a table that may hold anything."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value)


def as_json(value: Any) -> str:
    """For a script to read out of an attribute; what is not finite becomes null."""
    return orjson.dumps(value).decode()


def chart_rows(chart: Mapping[str, Any]) -> list[list[Any]]:
    """The points of a chart's lines as rows: where, then of each line what it is there."""
    lines = [dict(zip(line["x"], line["y"], strict=True)) for line in chart["lines"]]
    places = dict.fromkeys(place for line in lines for place in line)
    return [[place, *(line.get(place) for line in lines)] for place in places]


def layer_errors(proof: Mapping[str, Any]) -> dict[str, Any]:
    """The errors of a proof layer by layer, as a figure."""
    layers = proof["judged"]["layers"]
    lines = [
        {"name": name, "x": list(layers), "y": [errors[place] for errors in layers.values()]}
        for place, name in enumerate(("gradient", "update"))
    ]
    return {
        "is": "chart",
        "title": "Every layer",
        "kind": "bars",
        "is_log": True,
        "x_title": "Parameter",
        "y_title": "relative error",
        "lines": lines,
    }


def written(value: float | None, kind: str) -> str:
    """A value as number, share, duration or size."""
    return WRITERS[kind](value)


WRITERS: Mapping[str, Callable[[Any], str]] = {
    "number": number,
    "share": share,
    "duration": duration,
    "size": size,
}


def change(value: float, kind: str) -> str:
    """A difference, with its sign."""
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    if kind == "share":
        return f"{sign}{abs(value) * 100:.2f} points"
    return sign + written(abs(value), kind)


def range_of(field: Input) -> str:
    """The bounds of a number in words."""
    lowest, highest = field.attributes.get("min"), field.attributes.get("max")
    if lowest is None or highest is None:
        return "" if lowest is None else f"from {lowest:g}"
    return f"from {lowest:g} to {highest:g}"


def step_of(field: Input) -> float:
    """How far a slider of a number moves at a time: a round hundredth of its range."""
    if field.kind == "integer":
        return 1
    hundredth = (field.attributes["max"] - field.attributes["min"]) / 100
    power = 10 ** math.floor(math.log10(hundredth))
    return float(f"{round(hundredth / power) * power:.0e}")


def without(runs: Sequence[Mapping[str, Any]], left_out: Mapping[str, Any]) -> str:
    """The numbers of the other runs, with commas between."""
    return ",".join(str(run["id"]) for run in runs if run["id"] != left_out["id"])


def query_of(request: Request) -> Callable[..., str]:
    """Writes the query of this page's address with some parameters changed; None takes one away."""

    def query_with(**changes: Any) -> str:
        kept = [
            (key, value) for key, value in request.query_params.multi_items() if key not in changes
        ]
        set_now = [(key, str(value)) for key, value in changes.items() if value is not None]
        query = urlencode(kept + set_now)
        return f"?{query}" if query else ""

    return query_with


def environment() -> Environment:
    jinja = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "number": number,
        "share": share,
        "duration": duration,
        "size": size,
        "amount": amount,
        "moment": moment,
        "exact_moment": exact_moment,
        "colour": colour,
        "told": told,
        "cell": cell,
        "json": as_json,
        "chart_rows": chart_rows,
        "layer_errors": layer_errors,
        "sweep_chart": sweep_chart,
        "batch_figures": batch_figures,
        "batch_remarks": batch_remarks,
        "picture_address": picture_address,
        "marked": marked,
        "markdown": markdown,
        "written": written,
        "change": change,
        "range": range_of,
        "step": step_of,
        "metric_title": title,
        "metric_kind": lambda name: metric(name).shown_as,
    }
    jinja.globals |= {
        "asset": lambda name: asset(name).address,
        "static": lambda path: f"/static/{path}",
        "without": without,
        "may": lambda role: actor.get().may(role),
    }
    return jinja


JINJA = environment()


def render(request: Request, template: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A page from its template."""
    page = JINJA.get_template(template).render(
        request=request, query_with=query_of(request), me=actor.get(), **context
    )
    return HTMLResponse(page, status_code)
