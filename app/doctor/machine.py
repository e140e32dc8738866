"""What the lab runs on: versions, devices, shared memory, the port."""

import json
import shutil
import sqlite3
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import torch

from app.doctor.finding import Finding, bad, ok, warning
from app.settings import Settings
from trainer.environment import device_title
from trainer.part import Refused

Version = tuple[int, ...]

LEAST_PYTHON, LEAST_TORCH, NEXT_TORCH = (3, 11), (2, 11), (2, 14)
STRICT_TABLES: Version = (3, 37, 0)
"""The first SQLite that knows them; without, the schema cannot be made or read."""
LOG_RESET_FIXED: Version = (3, 51, 3)
LOG_RESET_BACKPORTS: tuple[Version, ...] = ((3, 44, 6), (3, 50, 7))
"""Older lines with the same fix. Every other version from 3.7.0 on can, in a very rare race of
two connections, lose what was committed: https://sqlite.org/wal.html#walresetbug"""
DRIVER = Path("/proc/driver/nvidia/version")
SHARED_MEMORY = Path("/dev/shm")
ENOUGH_SHARED_BYTES = 1_000_000_000
PATIENCE_SECONDS = 5.0


def examine_machine(settings: Settings) -> Iterator[Finding]:
    yield python(sys.version_info[:3])
    yield pytorch(torch.__version__)
    yield sqlite(sqlite3.sqlite_version_info)
    yield devices()
    yield shared_memory(SHARED_MEMORY)
    yield port(settings)


def python(version: Version) -> Finding:
    if version >= LEAST_PYTHON:
        return ok("python", dotted(version))
    words = f"{dotted(version)} is older than {dotted(LEAST_PYTHON)}"
    return bad("python", words, "install Tricklab under a newer Python")


def pytorch(version: str) -> Finding:
    known = tuple(int(part) for part in version.split(".")[:2])
    if LEAST_TORCH <= known < NEXT_TORCH:
        return ok("torch", version)
    newest = (NEXT_TORCH[0], NEXT_TORCH[1] - 1)
    return warning(
        "torch",
        f"{version} is not one of the versions Tricklab is tested with",
        f"install torch {dotted(LEAST_TORCH)} to {dotted(newest)}",
    )


def sqlite(version: Version) -> Finding:
    words = dotted(version)
    if version < STRICT_TABLES:
        return bad(
            "sqlite",
            f"{words} is too old: it knows no STRICT tables",
            f"use a Python with SQLite {dotted(STRICT_TABLES)} or later",
        )
    if has_log_reset_bug(version):
        return warning(
            "sqlite",
            f"{words} has a rare race that can damage a database several processes write to "
            "(the WAL-reset bug), unless whoever packaged it has mended it",
            f"use a Python with SQLite {dotted(LOG_RESET_FIXED)} or later; until then, back up",
        )
    return ok("sqlite", words)


def has_log_reset_bug(version: Version) -> bool:
    if version >= LOG_RESET_FIXED:
        return False
    return not any(version[:2] == fixed[:2] and version >= fixed for fixed in LOG_RESET_BACKPORTS)


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def devices() -> Finding:
    if torch.cuda.is_available():
        each = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        return ok(
            "devices", ", ".join(f"{name} ({device_title(torch.device(name))})" for name in each)
        )
    if torch.backends.mps.is_available():
        return ok("devices", "mps (Apple GPU)")
    if DRIVER.exists():
        return warning(
            "devices",
            "this machine has an NVIDIA driver, and torch sees no GPU",
            "install a torch that is built for CUDA, and in a container pass the GPU on",
        )
    return ok("devices", f"cpu ({device_title(torch.device('cpu'))}); torch sees no GPU")


def shared_memory(folder: Path) -> Finding:
    """Loader processes hand batches over through it; without room they die with a bus error."""
    if not folder.exists():
        return ok("shared memory", f"this system has no {folder}")
    size = shutil.disk_usage(folder).total
    words = f"{size / 1e9:,.2f} GB in {folder}"
    if size >= ENOUGH_SHARED_BYTES:
        return ok("shared memory", words)
    return warning(
        "shared memory",
        f"{words}: little for processes that load data",
        "start the container with --shm-size=2g, or load without processes",
    )


# -- the port -------------------------------------------------------------------------------


def port(settings: Settings) -> Finding:
    from app.server import must_be_free

    where = f"{settings.host}:{settings.port}"
    try:
        must_be_free(settings)
    except Refused as refusal:
        if is_tricklab(settings):
            return ok("port", f"a Tricklab answers at {where}")
        return warning("port", str(refusal), "choose another with TRICKLAB_PORT or --port")
    return ok("port", f"{where} is free")


def is_tricklab(settings: Settings) -> bool:
    """Whether a Tricklab answers at our own address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    address = f"[{host}]" if ":" in host else host
    # never through a proxy: what a proxy answers says nothing of this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{address}:{settings.port}/api/v1/openapi.json"
    try:
        with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
            found = json.loads(answer.read(10_000_000))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("info", {}).get("title") == "Tricklab"
