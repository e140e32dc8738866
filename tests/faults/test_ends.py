"""Every end by its name, and a cancel in every state, in short."""

from pathlib import Path

import pytest

from faults import ends


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_everything_that_goes_wrong_ends_by_its_name_and_the_next_run_starts(
    tmp_path: Path,
) -> None:
    shown = ends.everything_that_goes_wrong_is_named(tmp_path, seed=1, times=1)
    assert shown.holds, shown


@pytest.mark.timeout(400)
def test_a_cancel_ends_a_run_in_every_state_and_leaves_no_process(tmp_path: Path) -> None:
    shown = ends.cancel_ends_a_run(tmp_path, seed=1, times=1)
    # how long it takes is for a machine that does nothing else
    broken = [text for text in shown.broken if "took" not in text]
    assert not broken, shown
