"""Racing, frozen and misled workers, in short."""

from pathlib import Path

import pytest

from faults import sharing
from faults.sharing import broken_histories


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_of_runs_whose_workers_and_server_are_killed_none_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    for shown in sharing.nothing_is_lost_or_doubled(tmp_path, 1, count=15, kills=5, server_kills=1):
        assert shown.holds, shown


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_frozen_worker_that_wakes_up_can_write_nothing_and_ends(tmp_path: Path) -> None:
    shown = sharing.frozen_workers_do_no_damage(tmp_path, seed=1, takeovers=1)
    assert shown.holds, shown


def test_a_history_in_which_a_run_was_held_twice_is_found_out() -> None:
    fine = [(1, "queued"), (1, "running"), (2, "running"), (1, "queued"), (1, "running")]
    assert broken_histories([*fine, (1, "finished"), (2, "failed")]) == []
    assert broken_histories([*fine, (1, "running")]) == ["run 1 was claimed while somebody held it"]
    twice = [(1, "running"), (1, "finished"), (1, "running"), (1, "finished")]
    assert broken_histories(twice) == ["run 1 finished 2 times"]
