"""BatchesView: the first batches of an epoch as figures, pictures and sentences for a page."""

import base64
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from trainer.lessons.shown import Chart, Line, Shown, Table

SMALLEST_SIDE = 8
Answer = Mapping[str, Any]


def picture_address(picture: Mapping[str, Any]) -> str:
    """A picture's bytes (C, H, W), grey or of three colours, as the address of a PNG."""
    raw = base64.b64decode(picture["bytes"])
    values = np.frombuffer(raw, np.uint8).reshape(picture["shape"])
    image = Image.fromarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, 2))
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def batch_figures(answer: Answer) -> list[Mapping[str, Any]]:
    """The order of the epoch, and how often each class comes, as figures."""
    figures: list[Chart | Table] = [order_chart(answer)]
    if answer["counts"]:
        figures.append(counts_table(answer))
    told: list[Mapping[str, Any]] = Shown("", figures).told()["figures"]
    return told


def order_chart(answer: Answer) -> Chart:
    order = answer["order"]
    shown = f"the first {len(order):,} of " if len(order) < answer["examples_of_epoch"] else ""
    return Chart(
        f"The order of epoch {answer['epoch']}: {shown}{answer['examples_of_epoch']:,} examples",
        "place in the epoch",
        "number of the example",
        (Line("example", list(range(len(order))), order),),
        kind="dots",
    )


def counts_table(answer: Answer) -> Table:
    """Class by class, in each batch, in the epoch and as stored."""
    names = [f"batch {batch['number']}" for batch in answer["batches"]]
    columns = [batch["counts"] for batch in answer["batches"]]
    columns += [answer["counts"], answer["stored_counts"]]
    rows = [
        (name, *(column[number] for column in columns))
        for number, name in enumerate(answer["classes"])
    ]
    what = "Pixels" if answer["kind"] == "pixels" else "Examples"
    return Table(f"{what} of each class", ("class", *names, "whole epoch", "stored"), rows)


def batch_remarks(answer: Answer) -> list[str]:
    return list(remarks(answer))


def remarks(answer: Answer) -> Iterator[str]:
    comes, distinct = answer["examples_of_epoch"], answer["distinct_examples"]
    if answer["most_often"] > 1:
        missed = answer["stored_examples"] - distinct
        yield (
            f"Drawn with replacement: {distinct:,} different examples come, {missed:,} do not come "
            f"in this epoch at all, and one comes {answer['most_often']} times. Drawing all "
            "equally often would leave out about 37 %."
        )
    elif comes < answer["stored_examples"]:
        yield f"drop_last leaves out {answer['stored_examples'] - comes:,} examples of this epoch."
    seconds = [batch["seconds"] for batch in answer["batches"]]
    if len(seconds) > 1 and seconds[0] > 3 * max(seconds[1:]):
        yield (
            f"The first batch took {1000 * seconds[0]:.3g} ms and the next {1000 * seconds[1]:.3g} "
            "ms: "
            + (
                "the examples were made ready for the model once, and stay."
                if answer["is_resident"]
                else "loader processes had to start. Persistent ones do so only once."
            )
        )
    yield (
        "The order is a function of seed and epoch alone: the number of workers, the tricks and a "
        "pause in between change nothing about it."
    )
