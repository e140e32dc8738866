"""Trackio: one log call a step, into its local store; read from its dashboard's server."""

from collections.abc import Mapping, Sequence
from typing import Any

from peers.answer import answer, recorded
from peers.serving import fetch, milliseconds, served

PROJECT = "bench"
MOST_RUNS = 64
"""That its server answers at once."""


def recording(points: int) -> dict[str, Any]:
    import trackio

    trackio.init(project=PROJECT)
    return recorded(
        points, lambda step, value: trackio.log({"loss": value}, step=step), trackio.finish
    )


def reading(series: Mapping[str, Sequence[int]], points: int, times: int) -> dict[str, Any]:
    """Of series of these lengths, as one answer for each title."""
    names = {
        title: [filled(f"{title} {number}", length) for number, length in enumerate(lengths)]
        for title, lengths in series.items()
    }

    def ask(address: str, own: Sequence[str]) -> list[bytes]:
        runs = [{"run": name} for name in own]
        asked = {"project": PROJECT, "max_points": points}
        return [
            fetch(f"{address}/api/get_logs_batch", {**asked, "runs": runs[at : at + MOST_RUNS]})
            for at in range(0, len(runs), MOST_RUNS)
        ]

    serve = "import sys, trackio; trackio.show(server_port=int(sys.argv[1]), open_browser=False)"
    with served(("python", "-c", serve, "PORT")) as address:
        found = {
            title: milliseconds(lambda own=own: ask(address, own), times)
            for title, own in names.items()
        }
    return {**found, "note": "evenly spaced points"}


def filled(name: str, length: int) -> str:
    import trackio

    trackio.init(project=PROJECT, name=name)
    for step in range(length):
        trackio.log({"loss": 1.0 / (step + 1)}, step=step)
    trackio.finish()
    return name


if __name__ == "__main__":
    answer("trackio", recording=recording, reading=reading)
