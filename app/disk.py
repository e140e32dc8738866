"""Disk: how much room the lab's folder has, and the ballast that is thrown off when it is full."""

import contextlib
import logging
import os
import shutil
from pathlib import Path

from app.settings import Settings

log = logging.getLogger(__name__)


def free_bytes(settings: Settings) -> int:
    settings.folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(settings.folder).free


def trouble(settings: Settings) -> str:
    """Why no run should be started now, or ""."""
    free, reserve = free_bytes(settings), settings.reserve_megabytes * 10**6
    if free >= reserve:
        return ""
    return (
        f"the disk is nearly full: {free / 1e6:,.0f} MB are free in {settings.folder}, runs are "
        f"started from {reserve / 1e6:,.0f} MB on"
    )


class Ballast:
    """A file that takes room while there is plenty, and gives it back when the last is gone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.path: Path = settings.folder / "ballast"
        self.bytes = settings.ballast_megabytes * 10**6

    def take_on(self) -> None:
        """Make the file where it is missing and the disk has room for it and the reserve."""
        reserve = self.settings.reserve_megabytes * 10**6
        if self.is_there() or free_bytes(self.settings) < self.bytes + reserve:
            return
        try:
            with self.path.open("wb") as file:
                # not truncate: a file with holes takes no room
                os.posix_fallocate(file.fileno(), 0, self.bytes)
        except OSError as error:
            log.warning("no ballast: %s", error)
            self.throw_off()

    def throw_off(self) -> None:
        """Give its room to whoever must write now."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def is_there(self) -> bool:
        return not self.bytes or self.path.exists()
