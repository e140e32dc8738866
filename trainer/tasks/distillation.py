"""distillation: what an earlier run's model says of its training examples, as targets."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter
from torch import nn

from trainer.batch import Batch
from trainer.data_folders import DataFolders
from trainer.models import AnyModel, Model
from trainer.part import Refused
from trainer.sources import RunReference, Trained, trained_by
from trainer.targets import Kind
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts
from trainer.tasks.digits import Digits
from trainer.tasks.fashion_mnist import FashionMnist

DATA: dict[str, type[Task]] = {"digits": Digits, "fashion_mnist": FashionMnist}
AT_ONCE = 512


class Distillation(Task):
    """Learn what an earlier run's model says: the probabilities it gives to all classes.

    A teacher's "mostly a 4, a little like a 9" tells more than the right class alone (Hinton,
    Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015). Training targets are the
    teacher's probabilities; test targets are the true classes, so scores are comparable with those
    of the teacher. Use it with the Kullback-Leibler divergence and a temperature.
    """

    title: ClassVar[str] = "Distillation"
    source: ClassVar[str] = "The data set that is chosen, and a run of this lab"
    same_mirrored: ClassVar[bool] = False
    name: Literal["distillation"] = "distillation"
    data: Literal["digits", "fashion_mnist"] = Field(
        "digits", description="The data set; the one that the teacher learned."
    )
    teacher: RunReference = Field(
        "recipe:digits-cnn",
        description="The run whose model teaches: its number, its name, or recipe:NAME for the "
        "newest finished run of that recipe.",
    )
    label_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How much of each target is the true class instead of what the teacher says.",
    )

    @property
    def base(self) -> Task:
        """The task that the teacher learned."""
        return DATA[self.data]()

    def facts(self) -> TaskFacts:
        return replace(self.base.facts(), kind=Kind.DISTRIBUTION)

    def load(self, folders: DataFolders) -> TaskData:
        if folders.sources is None:
            raise Refused("distillation needs the runs of a lab; train it in one")
        trained = trained_by(folders.sources, self.teacher)
        self.must_know_the_task(trained)
        data = self.base.load(folders)
        classes = self.facts().outputs
        taught = Teacher.of(trained, self.facts(), data).probabilities(data.train)
        labels = F.one_hot(data.train.targets, classes).float()
        mixed = (1 - self.label_share) * taught + self.label_share * labels
        return replace(
            data,
            train=Examples(data.train.inputs, mixed),
            test=Examples(data.test.inputs, F.one_hot(data.test.targets, classes).float()),
        )

    def must_know_the_task(self, trained: Trained) -> None:
        """Refuses a teacher of something else."""
        task = dict(trained.config["task"])
        learned = task.get("data") if task["name"] == self.name else task["name"]
        if learned != self.data or task.get("classes"):
            raise Refused(
                f"run {trained.run_id} learned {task['name']}, not all of {self.data}; choose a "
                "teacher of the same data"
            )


@dataclass(frozen=True)
class Teacher:
    """A trained network that only says what it thinks."""

    network: nn.Module
    data: TaskData

    @classmethod
    def of(cls, trained: Trained, facts: TaskFacts, data: TaskData) -> "Teacher":
        model: Model = TypeAdapter[Any](AnyModel).validate_python(trained.config["model"])
        network = model.build(facts.input_shape, facts.outputs)
        network.load_state_dict(dict(trained.model))
        return cls(network.eval(), data)

    @torch.no_grad()
    def probabilities(self, examples: Examples) -> torch.Tensor:
        """Of each class for each example as it is stored: (N, C) float32, on the host."""
        found = []
        for inputs in torch.split(examples.inputs, AT_ONCE):
            batch = self.data.normalise(Batch(inputs, inputs[:0]))
            found.append(self.network(batch.inputs).softmax(dim=1))
        return torch.cat(found)
