"""DataFolders: where data sets may be read and downloaded. Without torch, as settings need it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFolders:
    """Named by whoever starts the worker."""

    data: Path
    download: bool = True
