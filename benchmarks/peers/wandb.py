"""Weights & Biases: offline mode, one log call a step."""

from typing import Any

from peers.answer import answer, recorded


def recording(points: int) -> dict[str, Any]:
    import wandb

    run = wandb.init(project="bench", mode="offline")
    return recorded(points, lambda step, value: run.log({"loss": value}, step=step), run.finish)


if __name__ == "__main__":
    answer("wandb", recording=recording)
