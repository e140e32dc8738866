"""Accelerate: the loop of its documentation, prepared; with TensorBoard told of every step."""

import time
from typing import Any

from peers.answer import answer
from peers.workload import Training, speeds


def loop(turns: int, **how: Any) -> dict[str, Any]:
    return speeds({"no log": no_log, "TensorBoard": with_tensorboard}, turns, **how)


def no_log(training: Training) -> float:
    return train(training, None)


def with_tensorboard(training: Training) -> float:
    return train(training, "tensorboard")


def train(training: Training, tracker: str | None) -> float:
    import torch.nn.functional as F
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, log_with=tracker, project_dir="accelerate")
    if tracker:
        accelerator.init_trackers("bench")
    network, optimizer, loader = accelerator.prepare(
        training.network, training.optimizer, loader_of(training)
    )
    network.train()
    step, began = 0, time.perf_counter()
    for _ in range(training.epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
            step += 1
            if tracker:
                accelerator.log({"loss": loss.item()}, step=step)
    taken = time.perf_counter() - began
    accelerator.end_training()
    return taken


def loader_of(training: Training) -> Any:
    """The same batches as a DataLoader, which is what it prepares."""
    from torch.utils.data import DataLoader, IterableDataset

    class Ready(IterableDataset):
        def __iter__(self) -> Any:
            return iter(training)

    return DataLoader(Ready(), batch_size=None)


if __name__ == "__main__":
    answer("accelerate", loop=loop)
