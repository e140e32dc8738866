"""breast_cancer and diabetes: small tables of measurements, bundled with scikit-learn."""

from typing import ClassVar, Literal

import numpy as np
import torch

from trainer.data_folders import DataFolders
from trainer.streams import generator
from trainer.targets import Kind
from trainer.tasks.base import Examples, Task, TaskData, TaskFacts
from trainer.tasks.bundled import Numbers, numbers_in

TEST_SHARE = 0.2


class BreastCancer(Task):
    """Is a tumour benign? 569 of them, 30 measurements of cell nuclei each.

    A question of yes and no: losses with one score per example, element weights and the weight of
    positives have their place here.
    """

    title: ClassVar[str] = "Breast cancer"
    source: ClassVar[str] = (
        "UCI Breast Cancer Wisconsin (Diagnostic) (Wolberg, Mangasarian, Street and Street, 1995; "
        "CC BY 4.0), the copy bundled with scikit-learn"
    )
    name: Literal["breast_cancer"] = "breast_cancer"

    def facts(self) -> TaskFacts:
        return TaskFacts(
            input_shape=(30,),
            outputs=1,
            classes=("malignant", "benign"),
            train_examples=455,
            test_examples=114,
            kind=Kind.BINARY,
        )

    def load(self, folders: DataFolders) -> TaskData:
        # a line of names before the numbers
        rows = numbers_in("breast_cancer.csv", delimiter=",", skiprows=1)
        return table(self.name, rows[:, :30], rows[:, 30])


class Diabetes(Task):
    """How far diabetes has gone after a year, a number, from ten measurements of 442 patients.

    A question of numbers: models learn them with mean 0 and spread 1, and errors are told in the
    units of the data (25 to 346).
    """

    title: ClassVar[str] = "Diabetes"
    source: ClassVar[str] = (
        "Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression, 2004; the copy bundled "
        "with scikit-learn"
    )
    name: Literal["diabetes"] = "diabetes"

    def facts(self) -> TaskFacts:
        return TaskFacts(
            input_shape=(10,),
            outputs=1,
            classes=(),
            train_examples=354,
            test_examples=88,
            kind=Kind.NUMBERS,
        )

    def load(self, folders: DataFolders) -> TaskData:
        measured = numbers_in("diabetes_data_raw.csv.gz")
        data = table(self.name, measured, numbers_in("diabetes_target.csv.gz"))
        targets = data.train.targets
        return TaskData(
            data.train,
            data.test,
            data.mean,
            data.spread,
            target_mean=float(targets.mean()),
            target_spread=float(targets.std()),
        )


def table(name: str, measured: Numbers, wanted: Numbers) -> TaskData:
    """Rows (N, columns) and targets (N, 1), both float32, split once for everybody."""
    inputs = torch.from_numpy(np.asarray(measured, np.float32))
    targets = torch.from_numpy(np.asarray(wanted, np.float32)).unsqueeze(1)
    order = torch.randperm(len(inputs), generator=generator(0, name, "split"))
    tested = round(TEST_SHARE * len(inputs))
    test, train = order[:tested], order[tested:]
    return TaskData(
        train=Examples(inputs[train], targets[train]),
        test=Examples(inputs[test], targets[test]),
        mean=inputs[train].mean(0),
        spread=inputs[train].std(0),
    )
