"""clip_feature: the founding note's own check, on P3D: model.fc(model.feature) == model(data)."""

import math
from collections import Counter
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import nn

from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.models import P3D
from trainer.models.p3d import P3DNetwork
from trainer.part import whole_number
from trainer.probe import Place, capturing
from trainer.streams import generator, process_stream

CHANNELS, CLASSES = 3, 400
MOST_ROWS = 12


class ClipFeatureLesson(Lesson):
    """Run clips through a P3D, take its feature, and feed that to the last layer by itself.

    The note sets an attribute inside the model's own code; a hook gets the same from any layer of
    any network. In evaluation mode the last layer gives the output of the whole to the bit. In
    training mode it does not: dropout sits between the two. The network uses each ReLU up to four
    times in a pass, so a name alone does not say which output is meant; and all outputs together
    take far more memory than the network itself.
    """

    title: ClassVar[str] = "The feature of a P3D"
    note: ClassVar[int] = 6
    name: Literal["clip_feature"] = "clip_feature"
    depth: Annotated[Literal[17, 63, 131, 199], BeforeValidator(whole_number)] = Field(
        17, description="Layers with weights; 199 is the one of the note, here with fewer channels."
    )
    width: int = Field(4, ge=2, le=16, description="Channels of its first layer; 64 in the paper.")
    clips: int = Field(2, ge=1, le=4, description="Clips in the batch; 16 in the note.")
    frames: int = Field(16, ge=2, le=32, description="Frames of each clip.")
    side: int = Field(32, ge=16, le=64, description="Pixels a side; 160 in the note.")
    trains: bool = Field(False, description="The network is in training mode.")

    def show(self, bench: Bench) -> Shown:
        with process_stream(0, "lesson"):
            network = P3D(depth=self.depth, width=self.width).build(self.shape, CLASSES)
        assert isinstance(network, P3DNetwork)
        bench.tell(0.4, "a forward pass")
        clips = torch.rand(self.clips, *self.shape, generator=generator(0, "lesson"))
        places, hooked, output = looked(network.train(self.trains), clips)
        with torch.no_grad():
            from_hook = network.fc(hooked)
            by_note = None if network.feature is None else network.fc(network.feature)
        apart = float((from_hook - output).abs().max())
        noted = by_note is not None and torch.equal(by_note, output)
        calls = Counter(place.layer for place in places)
        again = {name: count for name, count in calls.items() if count > 1}
        everything = sum(4 * size for size in places.values())
        return Shown(
            verdict=self.verdict(apart),
            figures=(self.by_stage(places), uses(again)),
            remarks=(
                f"{len(places)} outputs of {len(calls)} layers, {everything / 1e6:,.1f} MB as "
                f"float32; the network's own weights take {weights(network) / 1e6:,.1f} MB.",
                f"The attribute of the note says the same: {'yes' if noted else 'no'}."
                if by_note is not None
                else "In training mode the attribute is empty: it would keep a batch alive that "
                "the step is done with.",
                "P3D199 with all its channels on 16 clips of 16 frames of 160 x 160 gives 9.3 GiB "
                "of outputs in one pass. A run that records its layers makes each small where it "
                "is caught.",
            ),
            numbers={
                "apart": apart,
                "same": apart == 0,
                "attribute_is_the_same": noted,
                "calls": len(places),
                "bytes": everything,
            },
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return (CHANNELS, self.frames, self.side, self.side)

    def verdict(self, apart: float) -> str:
        if apart == 0:
            return f"fc(feature) is the output of P3D{self.depth} to the last bit."
        return (
            f"fc(feature) differs from the output by up to {apart:.2g}: in training mode dropout "
            "comes between them, and drew other numbers."
        )

    def by_stage(self, places: dict[Place, int]) -> Chart:
        """The megabytes of outputs by the module that they come from."""
        found: Counter[str] = Counter()
        for place, size in places.items():
            found[place.layer.partition(".")[0]] += 4 * size
        megabytes = [found[name] / 1e6 for name in found]
        line = Line("outputs", list(found), megabytes)
        return Chart("Outputs of one pass, by module", "", "MB", (line,), kind="bars")


def looked(
    network: nn.Module, clips: torch.Tensor
) -> tuple[dict[Place, int], torch.Tensor, torch.Tensor]:
    """How many values each leaf gave at each call, what the head was about to get, the output."""
    sizes: dict[Place, int] = {}
    features: list[torch.Tensor] = []
    leaves = [name for name, part in network.named_modules() if name and not any(part.children())]

    def take(place: Place, output: torch.Tensor) -> None:
        sizes[place] = math.prod(output.shape)

    def before_dropout(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        features.append(inputs[0].clone())

    handle = network.get_submodule("dropout").register_forward_pre_hook(before_dropout)
    try:
        with torch.no_grad(), capturing(network, leaves, take):
            output = network(clips)
    finally:
        handle.remove()
    return sizes, features[0], output


def uses(again: dict[str, int]) -> Table:
    """The layers that are used more than once in a pass."""
    rows = [(name, count) for name, count in list(again.items())[:MOST_ROWS]]
    title = f"{len(again)} layers are used more than once in a pass"
    return Table(title, ("Layer", "Uses"), rows)


def weights(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())
