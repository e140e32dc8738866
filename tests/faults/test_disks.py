"""Full, locked and read-only disks, in short."""

from pathlib import Path

import pytest

from faults import database, disks


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_full_disk_pauses_a_run_that_then_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    shown = disks.a_full_disk_needs_no_repair(tmp_path, seed=1, ways=("database",))
    if shown.what.startswith("not shown"):
        pytest.skip(shown.what)
    assert shown.holds, shown


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_locked_database_is_told_and_forgotten(tmp_path: Path) -> None:
    shown = database.a_locked_database_gives_a_503(tmp_path)
    assert shown.holds, shown


def test_changes_of_runs_are_written_durably_and_metrics_quickly(tmp_path: Path) -> None:
    shown = database.acknowledged_changes_are_durable(tmp_path)
    assert shown.holds, shown
