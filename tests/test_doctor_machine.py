"""The doctor's look at the machine: versions, the port, memory, and the disk of the lab."""

import os
import socket
from pathlib import Path

import pytest
from server import free_port, listening

from app.doctor import Finding, Verdict, disk, examine, machine
from app.settings import Settings


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 36, 9), Verdict.BAD),
        ((3, 37, 0), Verdict.WARNING),
        ((3, 44, 5), Verdict.WARNING),
        ((3, 44, 6), Verdict.OK),
        ((3, 50, 6), Verdict.WARNING),
        ((3, 50, 7), Verdict.OK),
        ((3, 51, 2), Verdict.WARNING),
        ((3, 51, 3), Verdict.OK),
        ((3, 52, 0), Verdict.OK),
    ],
)
def test_versions_of_sqlite_that_lose_or_lack_something_are_told(
    version: tuple[int, ...], verdict: Verdict
) -> None:
    assert machine.sqlite(version).verdict == verdict


def test_versions_that_are_not_supported_are_told() -> None:
    assert machine.python((3, 10, 14)).verdict == Verdict.BAD
    assert machine.python((3, 11, 0)).verdict == Verdict.OK
    assert machine.pytorch("2.10.1+cpu").verdict == Verdict.WARNING
    assert machine.pytorch("2.11.0").verdict == Verdict.OK
    assert machine.pytorch("2.13.9+cu130").verdict == Verdict.OK
    assert machine.pytorch("2.14.0").verdict == Verdict.WARNING


def test_a_port_with_another_program_is_told_and_one_with_a_tricklab_is_well(
    tmp_path: Path,
) -> None:
    settings = Settings(folder=tmp_path, port=free_port())
    with socket.create_server(("127.0.0.1", settings.port)):
        finding = machine.port(settings)
    assert finding.verdict == Verdict.WARNING
    assert f"cannot listen on 127.0.0.1:{settings.port}" in finding.words
    assert machine.port(settings).words == f"127.0.0.1:{settings.port} is free"
    with listening(settings) as client:
        port = client.base_url.port
        finding = machine.port(settings.model_copy(update={"port": port}))
    assert finding == Finding("port", Verdict.OK, f"a Tricklab answers at 127.0.0.1:{port}")


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /data nfs4 rw 0 0
/dev/vdb /data/fast xfs rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdc /tmp ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/lab", "ext4"),
        ("/data/lab", "nfs4"),
        ("/data/fast/lab", "xfs"),
        ("/database/lab", "ext4"),
        ("/mnt/my share/lab", "cifs"),
        ("/tmp/lab", "ext4"),
    ],
)
def test_the_disk_of_a_folder_is_the_one_mounted_deepest_and_last(path: str, kind: str) -> None:
    assert disk.mount_of(Path(path), disk.read_mounts(MOUNTS)).kind == kind


@pytest.mark.parametrize(
    ("kind", "verdict", "words"),
    [
        ("nfs4", Verdict.WARNING, "over a network"),
        ("fuse.sshfs", Verdict.WARNING, "over a network"),
        ("tmpfs", Verdict.WARNING, "in memory"),
        ("overlay", Verdict.OK, ""),
    ],
)
def test_a_lab_on_a_network_or_in_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, verdict: Verdict, words: str
) -> None:
    (tmp_path / "mounts").write_text(f"something / {kind} rw 0 0\n")
    monkeypatch.setattr(disk, "MOUNTS", tmp_path / "mounts")
    (finding,) = (one for one in examine(Settings(folder=tmp_path / "lab")) if one.name == "disk")
    assert finding.verdict == verdict
    assert words in finding.words


def test_a_disk_that_is_too_full_for_runs_is_told(tmp_path: Path) -> None:
    assert disk.free_space(tmp_path, 10**18).verdict == Verdict.BAD
    assert disk.free_space(tmp_path / "not" / "there", 0).verdict != Verdict.BAD


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o755)
    assert disk.writable(tmp_path / "file").verdict == Verdict.BAD
    assert disk.writable(tmp_path / "file" / "below").verdict == Verdict.BAD
    assert disk.writable(Path("/proc/none")).verdict == Verdict.BAD or os.getuid() == 0
    assert disk.writable(tmp_path).verdict == Verdict.OK


def test_little_shared_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.shared_memory(tmp_path / "none").verdict == Verdict.OK
    monkeypatch.setattr(machine, "ENOUGH_SHARED_BYTES", 1)
    assert machine.shared_memory(tmp_path).verdict == Verdict.OK
    monkeypatch.setattr(machine, "ENOUGH_SHARED_BYTES", 10**18)
    finding = machine.shared_memory(tmp_path)
    assert finding.verdict == Verdict.WARNING
    assert "--shm-size" in finding.way_out
