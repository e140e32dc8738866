"""SweepChart: a loader sweep as lines over workers, one for each batch size, the knees marked."""

from collections.abc import Mapping
from typing import Any

Figure = Mapping[str, Any]


def sweep_chart(answer: Mapping[str, Any]) -> Figure | None:
    """The figure of an answer, also of one that is not complete; None before the first row."""
    rows = [row for row in answer["rows"] if not row["problem"]]
    if not rows:
        return None
    trains = any(row["trained_per_second"] is not None for row in rows)
    lines = [line_of(size, rows) for size in dict.fromkeys(row["batch_size"] for row in rows)]
    knees = {(knee["batch_size"], knee["workers"]) for knee in answer["knees"]}
    rings = [
        {"x": row["workers"], "y": rate(row), "text": f"knee of batches of {row['batch_size']}"}
        for row in rows
        if not row["is_resident"] and (row["batch_size"], row["workers"]) in knees
    ]
    return {
        "is": "chart",
        "title": "Examples per second by loader processes",
        "x_title": "loader processes",
        "y_title": "examples trained per second" if trains else "examples loaded per second",
        "kind": "lines",
        "is_log": False,
        "lines": [*lines, *stay(rows)],
        "rings": rings,
    }


def line_of(size: int, rows: list[Any]) -> dict[str, Any]:
    own = [row for row in rows if row["batch_size"] == size and not row["is_resident"]]
    found = {row["workers"]: rate(row) for row in own}
    return line(f"batches of {size}", list(found), list(found.values()))


def stay(rows: list[Any]) -> list[dict[str, Any]]:
    """What examples that stay on the device come to, which no process loads: level lines."""
    widest = max(row["workers"] for row in rows)
    return [
        line(f"{row['batch_size']}, examples stay", [0, widest], [rate(row)] * 2, True)
        for row in rows
        if row["is_resident"]
    ]


def line(name: str, x: list[int], y: list[float], is_reference: bool = False) -> dict[str, Any]:
    return {"name": name, "x": x, "y": y, "is_reference": is_reference}


def rate(row: Mapping[str, Any]) -> float:
    """What counts: how fast it trains, or loads where that alone was measured."""
    trained = row["trained_per_second"]
    return float((row["loaded_per_second"] if trained is None else trained) or 0.0)
