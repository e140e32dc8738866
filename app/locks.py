"""ProcessLock: a lock on a file that the system frees when its process dies, however it dies."""

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO

HELD: set[Path] = set()
"""Locks of this process. POSIX frees a lock as soon as its process closes the file anywhere, so
the files of these must not even be looked into."""


class Occupied(Exception):
    """Another process has the lock; the text is what it wrote about itself."""


class ProcessLock:
    """A POSIX lock (`lockf`): never inherited by a child, and deaf to every clock."""

    def __init__(self, path: Path, content: str = "") -> None:
        self.path = path.absolute()
        self.content = content
        self.file: IO[str] | None = None

    def __enter__(self) -> "ProcessLock":
        """Take the lock. Raises Occupied."""
        if self.path in HELD:
            raise Occupied("this process")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # opened for appending: whoever holds the lock has its own words in the file
        self.file = self.path.open("a+")
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.seek(0)
            holder = self.file.read().strip() or "unknown"
            self.file.close()
            raise Occupied(holder) from None
        HELD.add(self.path)
        self.file.truncate(0)
        self.file.write(self.content)
        self.file.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.file is not None
        HELD.discard(self.path)
        self.file.close()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at this moment."""
    path = path.absolute()
    if path in HELD:
        return True
    try:
        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
