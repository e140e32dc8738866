"""digits: 1,797 real handwritten digits of 8x8 pixels, bundled with scikit-learn."""

from typing import ClassVar, Literal

import torch

from trainer.data_folders import DataFolders
from trainer.streams import generator
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts

EXAMPLES = 1797
TEST_EXAMPLES = 360


class Digits(Task):
    """Handwritten digits, 8x8 pixels, ten classes; there without a network, trained in seconds."""

    title: ClassVar[str] = "Digits"
    source: ClassVar[str] = (
        "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998; CC BY 4.0), "
        "the copy bundled with scikit-learn"
    )
    same_mirrored: ClassVar[bool] = False
    name: Literal["digits"] = "digits"

    def facts(self) -> TaskFacts:
        return TaskFacts(
            input_shape=(1, 8, 8),
            outputs=10,
            classes=tuple("0123456789"),
            train_examples=EXAMPLES - TEST_EXAMPLES,
            test_examples=TEST_EXAMPLES,
        )

    def load(self, folders: DataFolders) -> TaskData:
        train, test = read_digits()
        stored = train.inputs.float()
        return TaskData(train, test, mean=float(stored.mean()), spread=float(stored.std()))


def read_digits() -> tuple[Examples, Examples]:
    """The digits to train on and to test on: inputs (N, 1, 8, 8) from 0 to 16, targets (N,)."""
    # imported here: scikit-learn takes half a second, and few tasks need it
    from sklearn.datasets import load_digits

    bunch = load_digits()
    inputs = torch.from_numpy(bunch.images.astype("uint8")).unsqueeze(1)
    targets = torch.from_numpy(bunch.target.astype("int64"))
    # one fixed split for everybody: the run's seed must not change what is tested
    order = torch.randperm(EXAMPLES, generator=generator(0, "digits", "split"))
    test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
    return Examples(inputs[train], targets[train]), Examples(inputs[test], targets[test])
