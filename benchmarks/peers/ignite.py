"""Ignite: a supervised trainer; its TensorBoard logger told of every iteration."""

import time
from typing import Any

from peers.answer import answer
from peers.workload import Training, speeds


def loop(turns: int, **how: Any) -> dict[str, Any]:
    return speeds({"no log": no_log, "TensorBoard": with_tensorboard}, turns, **how)


def no_log(training: Training) -> float:
    return seconds(training, trainer_of(training))


def with_tensorboard(training: Training) -> float:
    from ignite.engine import Events
    from ignite.handlers import TensorboardLogger

    trainer = trainer_of(training)
    with TensorboardLogger(log_dir="ignite") as logger:
        logger.attach_output_handler(
            trainer,
            event_name=Events.ITERATION_COMPLETED,
            tag="training",
            output_transform=lambda loss: {"loss": loss},
        )
        return seconds(training, trainer)


def trainer_of(training: Training) -> Any:
    from ignite.engine import create_supervised_trainer
    from torch.nn import CrossEntropyLoss

    return create_supervised_trainer(training.network, training.optimizer, CrossEntropyLoss())


def seconds(training: Training, trainer: Any) -> float:
    began = time.perf_counter()
    trainer.run(training, max_epochs=training.epochs)
    return time.perf_counter() - began


if __name__ == "__main__":
    answer("pytorch-ignite", loop=loop)
