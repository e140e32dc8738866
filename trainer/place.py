"""Place: where a run belongs: its number, its files, its device, and the data of this machine."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.data_folders import DataFolders


@dataclass(frozen=True)
class Place:
    """What a run must know of where it is trained."""

    run_id: int
    folder: Path
    data: DataFolders
    device: str = ""
    """The device of its worker; empty where the config alone decides."""
    fence: int = 0
    """Which claim of the run this is: stands in the names of its files."""
    reserve_bytes: int = 0
    """Free space that recording leaves to checkpoints and to the state of the run."""

    @property
    def checkpoints(self) -> Path:
        return checkpoint_folder(self.folder)

    def free_bytes(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes would still leave the reserve."""
        return self.free_bytes() - size > self.reserve_bytes


def checkpoint_folder(run_folder: Path) -> Path:
    """Where the checkpoints of a run lie, inside its folder."""
    return run_folder / "checkpoints"
