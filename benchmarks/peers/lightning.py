"""Lightning: a module and a Trainer; bare-bones, without a log, with CSV and TensorBoard."""

import logging
import time
import warnings
from functools import partial
from typing import Any

from peers.answer import answer
from peers.workload import Training, speeds

KINDS = ("bare-bones", "no log", "CSV", "TensorBoard")


def loop(turns: int, **how: Any) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return speeds({kind: partial(train, kind=kind) for kind in KINDS}, turns, **how)


def train(training: Training, kind: str) -> float:
    module = module_of(training, logs=kind in ("CSV", "TensorBoard"))
    trainer_of(kind, training.epochs).fit(module, training)
    return float(module.ended - module.began)


def module_of(training: Training, logs: bool) -> Any:
    import lightning
    import torch.nn.functional as F

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = training.network

        def training_step(self, batch: Any, number: int) -> Any:
            inputs, targets = batch
            loss = F.cross_entropy(self.network(inputs), targets)
            if logs:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return training.optimizer

        def on_train_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_end(self) -> None:
            self.ended = time.perf_counter()

    return Module()


def trainer_of(kind: str, epochs: int) -> Any:
    import lightning
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    common = {"max_epochs": epochs, "accelerator": "cpu"}
    if kind == "bare-bones":
        return lightning.Trainer(**common, barebones=True)
    loggers = {"no log": lambda: False, "CSV": lambda: CSVLogger("lightning")}
    made = loggers.get(kind, lambda: TensorBoardLogger("lightning"))()
    return lightning.Trainer(
        **common,
        logger=made,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


if __name__ == "__main__":
    answer("lightning", loop=loop)
