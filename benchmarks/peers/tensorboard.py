"""TensorBoard: torch's SummaryWriter, one add_scalar a point; read from its server."""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from peers.answer import answer, recorded
from peers.serving import fetch, milliseconds, served, wait_for
from peers.workload import Training, bare, speeds


def recording(points: int) -> dict[str, Any]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter("runs")
    return recorded(
        points, lambda step, value: writer.add_scalar("loss", value, step), writer.close
    )


def reading(series: Mapping[str, Sequence[int]], points: int, times: int) -> dict[str, Any]:
    """Of series of these lengths, as one answer for each title."""
    names = {
        title: [f"{title} {number}" for number in range(len(lengths))]
        for title, lengths in series.items()
    }
    last = {}
    for title, lengths in series.items():
        for name, length in zip(names[title], lengths, strict=True):
            fill(name, length)
            last[name] = length - 1
    command = ("tensorboard", "--logdir", "runs", "--port", "PORT")
    kept = ("--samples_per_plugin", f"scalars={points}")
    began = time.perf_counter()
    with served((*command, *kept)) as address:
        scalars = f"{address}/data/plugin/scalars/scalars"

        def ask(names: Sequence[str]) -> list[bytes]:
            # its page asks for each run too
            return [fetch(f"{scalars}?{urlencode({'run': n, 'tag': 'loss'})}") for n in names]

        def is_loaded(name: str) -> bool:
            try:
                return bool(json.loads(ask([name])[0])[-1][1] == last[name])
            except OSError:
                return False

        for name in last:
            wait_for(lambda name=name: is_loaded(name))
        loading = time.perf_counter() - began
        found = {t: milliseconds(lambda own=own: ask(own), times) for t, own in names.items()}
    return {**found, "note": f"after {loading:.0f} s of loading; a random sample of the points"}


def fill(name: str, length: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(f"runs/{name}")
    for step in range(length):
        writer.add_scalar("loss", 1.0 / (step + 1), step)
    writer.close()


def loop(turns: int, **how: Any) -> dict[str, Any]:
    """The bare loop with one add_scalar a step."""
    return speeds({"in a bare loop": written}, turns, **how)


def written(training: Training) -> float:
    from torch.utils.tensorboard import SummaryWriter

    writer, steps = SummaryWriter("loop"), itertools.count()
    taken = bare(training, lambda loss: writer.add_scalar("loss", loss.item(), next(steps)))
    writer.close()
    return taken


if __name__ == "__main__":
    answer("tensorboard", recording=recording, reading=reading, loop=loop)
