"""Aim: one track call a step, into its local repository."""

from typing import Any

from peers.answer import answer, recorded


def recording(points: int) -> dict[str, Any]:
    from aim import Run

    run = Run(experiment="bench")
    return recorded(points, lambda step, value: run.track(value, name="loss", step=step), run.close)


if __name__ == "__main__":
    answer("aim", recording=recording)
