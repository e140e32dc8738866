"""Devices: one worker each, held by a lock that dies with its process."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from trainer.build import choose_device
from trainer.part import Refused


def device_name(wanted: str) -> str:
    """The device a worker works on, spelled one way: cpu, mps, cuda:0, …"""
    device = choose_device(wanted)
    return f"{device.type}:{device.index or 0}" if device.type == "cuda" else device.type


class DeviceLock:
    """The right to train on one device of this machine.

    A POSIX lock (`lockf`): freed at once when its process dies, however it dies, and never
    inherited by a child.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.path = folder / "locks" / f"worker-{device.replace(':', '-')}.lock"
        self.device = device
        self.file: IO[str] | None = None

    def __enter__(self) -> "DeviceLock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # opened for appending: whoever holds the lock has its process id in the file
        self.file = self.path.open("a+")
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.seek(0)
            holder = self.file.read().strip() or "unknown"
            self.file.close()
            raise Refused(
                f"another worker (process {holder}) works on {self.device} in "
                f"{self.path.parent.parent}; stop it, or choose another device"
            ) from None
        self.file.truncate(0)
        self.file.write(str(os.getpid()))
        self.file.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.file is not None
        self.file.close()

    def is_free(self) -> bool:
        """Whether nobody holds it at this moment. Not to be asked by the process that does."""
        try:
            with self:
                return True
        except Refused:
            return False
