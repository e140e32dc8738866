"""digits: 1,797 real handwritten digits of 8x8 pixels, bundled with scikit-learn."""

from typing import ClassVar, Literal

import numpy as np
import torch

from trainer.data_folders import DataFolders
from trainer.streams import generator
from trainer.tasks.base import Examples, TaskData
from trainer.tasks.bundled import numbers_in
from trainer.tasks.selection import SelectableTask

EXAMPLES = 1797
TEST_EXAMPLES = 360


class Digits(SelectableTask):
    """Handwritten digits, 8x8 pixels, ten classes; there without a network, trained in seconds."""

    title: ClassVar[str] = "Digits"
    source: ClassVar[str] = (
        "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998; CC BY 4.0), "
        "the copy bundled with scikit-learn"
    )
    same_mirrored: ClassVar[bool] = False
    input_shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    train_counts: ClassVar[tuple[int, ...]] = (143, 139, 142, 148, 157, 150, 135, 139, 145, 139)
    test_counts: ClassVar[tuple[int, ...]] = (35, 43, 35, 35, 24, 32, 46, 40, 29, 41)
    name: Literal["digits"] = "digits"

    def load(self, folders: DataFolders) -> TaskData:
        train, test = read_digits()
        # of all digits, whichever are chosen: what is learned of some is to fit the others
        stored = train.inputs.float()
        mean, spread = float(stored.mean()), float(stored.std())
        return TaskData(*self.selected(train, test), mean, spread)


def read_digits() -> tuple[Examples, Examples]:
    """The digits to train on and to test on: inputs (N, 1, 8, 8) from 0 to 16, targets (N,)."""
    rows = torch.from_numpy(numbers_in("digits.csv.gz", delimiter=",", dtype=np.uint8))
    inputs, targets = rows[:, :64].reshape(-1, 1, 8, 8), rows[:, 64].long()
    # one fixed split for everybody: the run's seed must not change what is tested
    order = torch.randperm(EXAMPLES, generator=generator(0, "digits", "split"))
    test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
    return Examples(inputs[train], targets[train]), Examples(inputs[test], targets[test])
