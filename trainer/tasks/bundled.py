"""Bundled: tables of numbers that come with scikit-learn, read without importing it.

Importing it takes seconds of a core in every process that trains; the files are a few kilobytes.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.part import Refused

Numbers = npt.NDArray[np.float64]


def numbers_in(file: str, **how: Any) -> Numbers:
    """The rows of a file that scikit-learn bundles, as numpy.loadtxt reads it; packed ones too.

    Raises Refused where the package or the file is not there.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise Refused(f"{file} comes with scikit-learn, which is not installed here; install it")
    path = Path(package.origin).parent / "datasets" / "data" / file
    if not path.is_file():
        raise Refused(f"this version of scikit-learn has no {file}; install 1.5 to 1.9")
    return np.loadtxt(path, **how)
