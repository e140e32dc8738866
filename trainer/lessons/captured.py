"""captured: what a hook sees of a layer, and what is left of it a moment later."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.config import RunConfig
from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Picture, Pictures, Shown, Table
from trainer.lessons.training import ENDLESS, prepared, steps_of
from trainer.loader import Loader
from trainer.models import SmallCnn
from trainer.optimizers import Sgd
from trainer.probe import Place, capturing
from trainer.schedules import Constant
from trainer.tasks import Digits

Outputs = dict[str, torch.Tensor]
STEPS = 20
HEAD = "head"
FEATURE = "dropout"
SHOWN = "block1.norm"


class CapturedLesson(Lesson):
    """Catch the output of every layer with a hook, and hold it against computing it by itself.

    A hook is handed the very tensor that the next layer gets. Where that layer works in place, as
    ReLU(inplace=True) does, what was caught is overwritten before anybody looks: it has to be
    copied inside the hook. In training mode the look itself changes the model, since batch norm
    gathers statistics of what it is shown. With both seen to, the feature before the head, fed to
    the head, gives the output of the whole model to the last bit.
    """

    title: ClassVar[str] = "The output of any layer"
    note: ClassVar[int] = 6
    name: Literal["captured"] = "captured"
    in_place: bool = Field(True, description="The ReLUs work in place.")
    copies: bool = Field(False, description="The hook copies what it catches.")
    evaluates: bool = Field(True, description="The model is in evaluation mode, as in a probe.")
    examples: int = Field(4, ge=1, le=16, description="Digits that are looked at.")

    def show(self, bench: Bench) -> Shown:
        data = Digits().load(bench.data)
        setup = prepared(CONFIG, data)
        setup.place()
        steps_of(setup, STEPS)
        model = setup.model
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = self.in_place
        inputs = data.test.inputs[: self.examples].float().sub(data.mean).div(data.spread)
        before = buffers(model)
        with torch.no_grad():
            truth = truly(model, inputs, train=not self.evaluates)
            put_back(model, before)
            caught, output = self.caught(model, inputs)
            same = torch.equal(model.get_submodule(HEAD)(caught[FEATURE]), output)
        moved = sum(not torch.equal(now, before[name]) for name, now in model.named_buffers())
        wrong = [name for name in truth if not torch.equal(caught[name], truth[name])]
        return Shown(
            verdict=self.verdict(wrong, len(truth), same, moved),
            figures=(
                table(truth, caught),
                mosaic(f"{SHOWN}, as it was", truth[SHOWN]),
                mosaic(f"{SHOWN}, as it was caught", caught[SHOWN]),
            ),
            remarks=(
                f"{HEAD}(feature) == model(x): {'the same to the bit' if same else 'it differs'}. "
                "This is the check of the founding note, on every layer of any model.",
                "register_full_backward_hook on a module whose output is then changed in place "
                "raises an error; a forward hook does not, and shows you something else.",
                "When a run records layers it does so in evaluation mode, without gradients, with "
                "copies, and with the random generators put back.",
            ),
            numbers={"wrong": wrong, "head_of_feature_is_output": same, "buffers_moved": moved},
        )

    def caught(self, model: nn.Module, inputs: torch.Tensor) -> tuple[Outputs, torch.Tensor]:
        """What hooks caught of one forward pass, after it is over; and its output."""
        caught: Outputs = {}

        def take(place: Place, output: torch.Tensor) -> None:
            caught[place.layer] = output.clone() if self.copies else output

        model.train(not self.evaluates)
        with capturing(model, leaves(model), take):
            output = model(inputs)
        return caught, output

    def verdict(self, wrong: list[str], layers: int, same: bool, moved: int) -> str:
        seen = (
            f"{len(wrong)} of {layers} layers were overwritten before anybody looked: "
            f"{', '.join(wrong)}."
            if wrong
            else f"All {layers} layers were caught as they were, to the bit."
        )
        mode = (
            f" In training mode the look changed {moved} buffers of batch norm."
            if moved
            else " The look changed nothing in the model."
        )
        return seen + mode


CONFIG = RunConfig(
    model=SmallCnn(width=8),
    loader=Loader(batch_size=64),
    optimizer=Sgd(learning_rate=0.05),
    schedule=Constant(),
    budget=ENDLESS,
)


def leaves(model: nn.Module) -> list[str]:
    """The layers that have none inside, in the order of the forward pass."""
    return [name for name, module in model.named_modules() if name and not any(module.children())]


def truly(model: nn.Module, inputs: torch.Tensor, *, train: bool) -> Outputs:
    """Every layer computed by hand, one after the other, each result kept by itself."""
    found: Outputs = {}
    model.train(train)
    value = inputs
    for name in leaves(model):
        value = model.get_submodule(name)(value.clone())
        found[name] = value.clone()
    return found


def buffers(model: nn.Module) -> Outputs:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def put_back(model: nn.Module, before: Outputs) -> None:
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])


def table(truth: Outputs, caught: Outputs) -> Table:
    rows = []
    for name, value in truth.items():
        seen = caught[name]
        negatives = [int((one < 0).sum()) for one in (value, seen)]
        shape = " x ".join(map(str, value.shape))
        rows.append((name, shape, *negatives, "yes" if torch.equal(value, seen) else "no"))
    columns = ("Layer", "Shape", "Negative values", "Of those caught", "Same bits")
    return Table("Every layer, caught and computed by itself", columns, rows)


def mosaic(title: str, output: torch.Tensor) -> Pictures:
    """The channels of the first example. output (N, C, H, W)."""
    shown = [Picture(f"channel {k}", one.tolist()) for k, one in enumerate(output[0])]
    return Pictures(title, shown)
