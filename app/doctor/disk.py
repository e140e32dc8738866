"""Where the lab lies: whether it can be written to, how much is free, on what kind of disk."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.doctor.finding import Finding, bad, ok, warning
from app.settings import Settings
from trainer.store.database import sqlite_file

LITTLE_BYTES = 5_000_000_000
MOUNTS = Path("/proc/mounts")
NETWORK = frozenset(
    "nfs nfs4 cifs smb3 smbfs ncpfs 9p afs ceph glusterfs lustre beegfs gpfs ocfs2 gfs2 vboxsf "
    "davfs fuse.sshfs fuse.glusterfs fuse.rclone fuse.s3fs fuse.gcsfuse fuse.vmhgfs-fuse".split()
)
IN_MEMORY = frozenset(("tmpfs", "ramfs"))


@dataclass(frozen=True)
class Mount:
    """One line of the system's table of mounted disks."""

    point: Path
    kind: str


def examine_disk(settings: Settings) -> Iterator[Finding]:
    yield writable(settings.folder)
    yield free_space(settings.folder, settings.reserve_megabytes * 10**6)
    yield file_system("disk", settings.folder)
    database = sqlite_file(settings.database_url)
    if database is not None and database.absolute().parent != settings.folder.absolute():
        yield writable(database.parent, "folder of the database")
        yield file_system("disk of the database", database.parent)


def there(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def writable(folder: Path, name: str = "folder") -> Finding:
    nearest = there(folder)
    # asked, not tried: whoever examines leaves nothing behind
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return bad(
            name,
            f"{nearest} is no folder that this user can write to",
            f"make it writable, or choose another with TRICKLAB_FOLDER (now {folder.absolute()})",
        )
    if not folder.exists():
        return ok(name, f"{folder.absolute()} is made by the first start")
    return ok(name, f"{folder.absolute()} can be written to")


def free_space(folder: Path, reserve_bytes: int) -> Finding:
    free = shutil.disk_usage(there(folder)).free
    words = f"{free / 1e9:,.1f} GB are free"
    way_out = "delete runs that nobody needs, or move the folder to a larger disk"
    if free < reserve_bytes:
        return bad("space", f"only {words}, too little for a run to be started", way_out)
    if free < LITTLE_BYTES:
        return warning("space", f"only {words}", way_out)
    return ok("space", words)


def file_system(name: str, folder: Path) -> Finding:
    """The database's log and the workers' locks need a disk of this machine."""
    if not MOUNTS.exists():
        return ok(name, "what kind of disk it is cannot be told on this system")
    found = mount_of(there(folder).resolve(), read_mounts(MOUNTS.read_text()))
    words = f"{folder.absolute()} lies on {found.kind}, mounted at {found.point}"
    if found.kind in NETWORK:
        return warning(
            name,
            f"{words}: over a network SQLite and the locks of workers are not safe",
            "choose a folder on a disk of this machine, or a PostgreSQL database",
        )
    if found.kind in IN_MEMORY:
        return warning(
            name,
            f"{words}: in memory, and gone after a restart of the machine",
            "choose a folder on a disk for what is to stay",
        )
    return ok(name, words)


def read_mounts(table: str) -> list[Mount]:
    fields = [line.split() for line in table.splitlines()]
    return [Mount(Path(unescaped(line[1])), line[2]) for line in fields if len(line) > 2]


def unescaped(name: str) -> str:
    """A name out of the table: blanks stand in it as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def mount_of(path: Path, mounts: list[Mount]) -> Mount:
    """The mount that a path lies in: the deepest, and of those at one place the last."""
    around = [mount for mount in mounts if path.is_relative_to(mount.point)]
    if not around:
        return Mount(Path("/"), "an unknown file system")
    depth = max(len(mount.point.parts) for mount in around)
    return [mount for mount in around if len(mount.point.parts) == depth][-1]
