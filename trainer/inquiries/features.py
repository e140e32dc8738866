"""features: what a finished run's network gives at one layer, for examples of its task."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.batch import Batch
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.inquiry import Bench, Inquiry
from trainer.part import Refused
from trainer.probe import Place, capturing, untouched
from trainer.sources import RunReference, trained_by
from trainer.tasks import Examples

MOST_BYTES = 64 * 2**20
"""Of an answer. It goes through the database, and a whole network's outputs would be gigabytes."""
BATCH = 64


class Features(Inquiry):
    """The network of a finished run, up to one layer, as something that makes features.

    Its newest checkpoint is taken, in evaluation mode and without gradients; nothing behind the
    layer is computed. The answer holds the values as float32, one row per example, in the order
    that was asked for.
    """

    title: ClassVar[str] = "Features"
    name: Literal["features"] = "features"
    run: RunReference = Field(
        "", description="A finished run: its number, its name, or recipe:NAME."
    )
    layer: str = Field("", max_length=300, description="The name of the layer, as in its tree.")
    call: int = Field(0, ge=0, lt=1000, description="Which use of a layer used repeatedly.")
    split: Literal["test", "train"] = Field("test", description="Which examples of its task.")
    examples: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        tuple(range(8)), min_length=1, max_length=4096, description="Their numbers."
    )

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        sources = bench.data.sources
        if sources is None:
            raise Refused("no runs can be found from here; ask in a lab")
        trained = trained_by(sources, self.run)
        config = RunConfig.model_validate(trained.config)
        data = config.task.load(bench.data)
        setup = build_setup(config, data, bench.device, sources)
        model = setup.model
        model.load_state_dict(dict(trained.model))
        self.must_have_layer(model)
        setup.place()
        chosen = self.chosen(data.test if self.split == "test" else data.train)
        rows: list[torch.Tensor] = []
        for first in range(0, len(self.examples), BATCH):
            bench.tell(first / len(self.examples), f"example {first} of {len(self.examples)}")
            part = chosen.inputs[first : first + BATCH], chosen.targets[first : first + BATCH]
            batch = setup.prepare(Batch(*part).to(bench.device))
            output = up_to(model, batch.inputs, Place(self.layer, self.call))
            self.must_be_small(output)
            rows.append(output.float().cpu())
        features = torch.cat(rows)
        return {
            "run": trained.run_id,
            "step": trained.step,
            "layer": self.layer,
            "call": self.call,
            "split": self.split,
            "examples": list(self.examples),
            "targets": chosen.targets.tolist(),
            "shape": list(features.shape),
            "dtype": "<f4",
            "values": base64.b64encode(features.numpy().astype("<f4").tobytes()).decode(),
        }

    def must_have_layer(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_modules() if name]
        if self.layer not in names:
            known = ", ".join(names[:30]) + (" …" if len(names) > 30 else "")
            raise Refused(f"this network has no layer {self.layer!r}; it has {known}")

    def chosen(self, examples: Examples) -> Batch:
        if (largest := max(self.examples)) >= len(examples):
            raise Refused(
                f"there is no {self.split} example {largest}; they go from 0 to {len(examples) - 1}"
            )
        return examples.__getitems__(self.examples)

    def must_be_small(self, output: torch.Tensor) -> None:
        each = 4 * output[0].numel()
        if each * len(self.examples) > MOST_BYTES:
            raise Refused(
                f"{len(self.examples)} outputs of {self.layer} take "
                f"{each * len(self.examples) / 1e6:,.0f} MB; ask for at most "
                f"{max(1, MOST_BYTES // each)} examples at a time, or for a later layer"
            )


class Reached(Exception):
    """The layer that was wanted has been computed; nothing behind it is needed."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


@torch.no_grad()
def up_to(model: nn.Module, inputs: torch.Tensor, wanted: Place) -> torch.Tensor:
    """What a layer gives for inputs (N, …): (N, …). Computes nothing behind it.

    Raises Refused where the network does not get there so often, or gives no tensor.
    """

    def take(place: Place, output: torch.Tensor) -> None:
        if place == wanted:
            # copied before an operation in place could reach it
            raise Reached(output.clone())

    with untouched(model), capturing(model, [wanted.layer], take):
        try:
            model(inputs)
        except Reached as reached:
            return reached.output
    raise Refused(
        f"{wanted.layer} gave no tensor at its call {wanted.call}; it is used less often in a "
        "forward pass, or gives something else"
    )
