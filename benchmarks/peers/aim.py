"""Aim: one track call a step, into its local repository; read from its server."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from peers.answer import answer, recorded
from peers.serving import fetch, milliseconds, served


def recording(points: int) -> dict[str, Any]:
    from aim import Run

    run = Run(experiment="bench")
    return recorded(points, lambda step, value: run.track(value, name="loss", step=step), run.close)


def reading(series: Mapping[str, Sequence[int]], points: int, times: int) -> dict[str, Any]:
    """Of series of these lengths, as one answer for each title."""
    for title, lengths in series.items():
        for length in lengths:
            fill(title, length)

    def ask(address: str, experiment: str) -> bytes:
        query = f"run.experiment == '{experiment}' and metric.name == 'loss'"
        asked = {"q": query, "p": points, "report_progress": False}
        return fetch(f"{address}/api/runs/search/metric/?{urlencode(asked)}")

    with served(("aim", "up", "--port", "PORT", "--yes")) as address:
        return {
            title: milliseconds(lambda title=title: ask(address, title), times) for title in series
        }


def fill(experiment: str, length: int) -> None:
    from aim import Run

    run = Run(experiment=experiment, system_tracking_interval=None, log_system_params=False)
    for step in range(length):
        run.track(1.0 / (step + 1), name="loss", step=step)
    run.close()


if __name__ == "__main__":
    answer("aim", recording=recording, reading=reading)
