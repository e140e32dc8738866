"""Trackio: one log call a step, into its local store."""

from typing import Any

from peers.answer import answer, recorded


def recording(points: int) -> dict[str, Any]:
    import trackio

    trackio.init(project="bench")
    return recorded(
        points, lambda step, value: trackio.log({"loss": value}, step=step), trackio.finish
    )


if __name__ == "__main__":
    answer("trackio", recording=recording)
