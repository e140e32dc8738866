"""TorchLens: one trace call, which keeps every activation of a forward pass."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from peers.answer import answer


def layers(width: int, input_shape: Sequence[int], batch: int, turns: int) -> dict[str, Any]:
    import torch
    import torchlens

    from trainer.models import ResNet20

    model = ResNet20(width=width).build(tuple(input_shape), 10).eval()
    inputs = torch.randn(batch, *input_shape)

    def seconds(work: Callable[[], object]) -> float:
        with torch.no_grad():
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

    pairs = []
    for _ in range(turns + 2):
        plain = seconds(lambda: model(inputs))
        pairs.append((plain, seconds(lambda: torchlens.trace(model, inputs))))
    pairs = pairs[2:]
    return {
        "milliseconds": 1000 * statistics.median(traced for _, traced in pairs),
        "forwards": statistics.median(traced / plain for plain, traced in pairs),
    }


if __name__ == "__main__":
    answer("torchlens", layers=layers)
