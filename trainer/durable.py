"""Durable: what must be on the disk after a power failure. Without torch, as backups need it."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """The new name itself must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
