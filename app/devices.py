"""Devices: one worker each, held by a lock that dies with its process."""

import os
from pathlib import Path
from types import TracebackType

from app.locks import Occupied, ProcessLock, is_held
from trainer.build import choose_device
from trainer.part import Refused


def device_name(wanted: str) -> str:
    """The device a worker works on, spelled one way: cpu, mps, cuda:0, …"""
    device = choose_device(wanted)
    return f"{device.type}:{device.index or 0}" if device.type == "cuda" else device.type


class DeviceLock:
    """The right to train on one device of this machine."""

    def __init__(self, folder: Path, device: str) -> None:
        name = f"device-{device.replace(':', '-')}.lock"
        self.lock = ProcessLock(folder / "locks" / name, str(os.getpid()))
        self.folder = folder
        self.device = device

    def __enter__(self) -> "DeviceLock":
        try:
            self.lock.__enter__()
        except Occupied as holder:
            raise Refused(
                f"another worker (process {holder}) works on {self.device} in "
                f"{self.folder}; stop it, or choose another device"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lock.__exit__(kind, error, trace)

    def is_free(self) -> bool:
        """Whether nobody holds it at this moment."""
        return not is_held(self.lock.path)
