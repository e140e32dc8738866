"""Before anything is imported: the tests share a few cores, so each process computes with one.

They need not log in, except those that are about that.
"""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRICKLAB_ACCESS", "off")

LONGEST = (
    "test_browser.py",
    "test_api_contract.py",
    "test_worker.py",
    "test_loader_processes.py",
    "test_whole_way_api.py",
    "test_inquiries.py",
    "test_training.py",
    "test_inquiry_faults.py",
    "test_tricks.py",
    "test_proofs.py",
    "test_restore.py",
)
"""What takes half a minute or more, such as waits first, so that others compute meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: a file is run by one process, and all would wait for the last."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
