"""The tasks a person can choose. A new one is a file here and a name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.data_folders import DataFolders
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts
from trainer.tasks.digit_scenes import DigitScenes
from trainer.tasks.digits import Digits
from trainer.tasks.distillation import Distillation
from trainer.tasks.fashion_mnist import FashionMnist
from trainer.tasks.moving_digits import MovingDigits
from trainer.tasks.tables import BreastCancer, Diabetes

AnyTask = Annotated[
    Digits | FashionMnist | BreastCancer | Diabetes | DigitScenes | MovingDigits | Distillation,
    Field(discriminator="name"),
]
TASKS: tuple[type[Task], ...] = get_args(get_args(AnyTask)[0])

__all__ = [
    "TASKS",
    "AnyTask",
    "BreastCancer",
    "DataFolders",
    "Diabetes",
    "DigitScenes",
    "Digits",
    "Distillation",
    "Examples",
    "FashionMnist",
    "MovingDigits",
    "Task",
    "TaskData",
    "TaskFacts",
]
