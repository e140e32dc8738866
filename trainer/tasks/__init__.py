"""The tasks a person can choose. A new one is a file here and a name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.data_folders import DataFolders
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts
from trainer.tasks.digits import Digits
from trainer.tasks.fashion_mnist import FashionMnist

AnyTask = Annotated[Digits | FashionMnist, Field(discriminator="name")]
TASKS: tuple[type[Task], ...] = get_args(get_args(AnyTask)[0])

__all__ = [
    "TASKS",
    "AnyTask",
    "DataFolders",
    "Digits",
    "Examples",
    "FashionMnist",
    "Task",
    "TaskData",
    "TaskFacts",
]
