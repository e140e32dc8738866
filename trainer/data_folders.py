"""DataFolders: where data sets may be read and downloaded. Without torch, as settings need it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.sources import Sources


@dataclass(frozen=True)
class DataFolders:
    """Named by whoever starts the worker."""

    data: Path
    download: bool = True
    sources: "Sources | None" = None
    """Where other runs are found; None where there is no lab around."""
