"""layer_rates: how far each layer moves when rates fall with depth."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from trainer.config import RunConfig
from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.lessons.training import ENDLESS, prepared, steps_of
from trainer.loader import Loader
from trainer.models import SmallCnn
from trainer.optimizers import AdamW, Sgd
from trainer.schedules import Constant
from trainer.setup import Setup
from trainer.tasks import Digits, TaskData
from trainer.tricks import LayerwiseLearningRate, Trick


class LayerRatesLesson(Lesson):
    """Train a few steps with one rate for all layers and with rates by depth, and measure.

    The rate is not what decides how far a layer moves: its gradient and its size count as well.
    With SGD a lower rate means a shorter way in proportion. AdamW divides each gradient by its own
    size, so that every weight moves by about the rate itself, whatever the layer.
    """

    title: ClassVar[str] = "How far each layer moves"
    note: ClassVar[int] = 8
    tricks: ClassVar[tuple[str, ...]] = ("layerwise_learning_rate",)
    name: Literal["layer_rates"] = "layer_rates"
    decay: float = Field(
        0.5, ge=0.05, le=1, description="Factor of the rate from one module to the one before it."
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Which optimizer trains.")
    steps: int = Field(20, ge=1, le=60, description="Optimizer steps of each.")

    def show(self, bench: Bench) -> Shown:
        data = Digits().load(bench.data)
        plain = self.moved(data, [])
        bench.tell(0.5, "with rates by depth")
        trick = LayerwiseLearningRate(decay=self.decay)
        lowered = self.moved(data, [trick])
        rates = self.rates(data, trick)
        names = list(plain)
        share = lowered[names[0]] / plain[names[0]]
        return Shown(
            verdict=f"The first layer learns at {rates[names[0]]:.3g} of the full rate and moves "
            f"{share:.2f} times as far as without the trick; the head moves "
            f"{lowered[names[-1]] / plain[names[-1]]:.2f} times as far.",
            figures=(
                Chart(
                    f"Moved in {self.steps} steps, of its own size",
                    "",
                    "relative distance",
                    (
                        Line("one rate", names, list(plain.values())),
                        Line("by depth", names, list(lowered.values())),
                    ),
                    kind="bars",
                ),
                Table(
                    "Layer by layer",
                    ("Weight", "Of the full rate", "Moved, one rate", "Moved, by depth"),
                    [(name, rates[name], plain[name], lowered[name]) for name in names],
                ),
            ),
            remarks=(
                "For layers that start fresh a lower rate is only slower. It pays where the first "
                "layers were trained before, on something like this.",
            ),
            numbers={"rates": rates, "one_rate": plain, "by_depth": lowered},
        )

    def moved(self, data: TaskData, tricks: list[Trick]) -> dict[str, float]:
        """How far each weight comes in these steps, of its own size."""
        setup = prepared(self.config(), data, tricks)
        setup.place()
        before = weights_of(setup)
        steps_of(setup, self.steps)
        return {
            name: float((now - before[name]).norm() / before[name].norm())
            for name, now in weights_of(setup).items()
        }

    def rates(self, data: TaskData, trick: LayerwiseLearningRate) -> dict[str, float]:
        """What of the full rate each weight learns at."""
        setup = prepared(self.config(), data, [trick])
        setup.place()
        full = setup.optimizer.defaults["lr"]
        of_weight = {
            id(weight): group["peak_lr"] / full
            for group in setup.optimizer.param_groups
            for weight in group["params"]
        }
        return {
            name: of_weight[id(weight)]
            for name, weight in setup.model.named_parameters()
            if weight.ndim > 1
        }

    def config(self) -> RunConfig:
        optimizers = {"sgd": Sgd(learning_rate=0.02), "adamw": AdamW(learning_rate=0.002)}
        return RunConfig(
            model=SmallCnn(width=8),
            loader=Loader(batch_size=64),
            optimizer=optimizers[self.optimizer],
            schedule=Constant(),
            budget=ENDLESS,
        )


def weights_of(setup: Setup) -> dict[str, torch.Tensor]:
    """The weights of convolutions and linear layers; those of norms start at 1 and 0."""
    named = setup.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.ndim > 1}
