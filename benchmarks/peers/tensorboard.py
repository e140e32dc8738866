"""TensorBoard: torch's SummaryWriter, one add_scalar a point."""

from typing import Any

from peers.answer import answer, recorded


def recording(points: int) -> dict[str, Any]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter("runs")
    return recorded(
        points, lambda step, value: writer.add_scalar("loss", value, step), writer.close
    )


if __name__ == "__main__":
    answer("tensorboard", recording=recording)
