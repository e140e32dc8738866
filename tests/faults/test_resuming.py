"""Killed runs, in short: five of them, three times each, and checkpoints that are damaged."""

from pathlib import Path

import pytest

from faults import resuming
from faults.world import problems_of


@pytest.mark.timeout(400)
def test_killed_runs_end_as_if_nothing_had_been_and_the_database_is_whole(tmp_path: Path) -> None:
    same, once, world = resuming.killed_runs_end_alike(tmp_path, seed=1, count=5)
    assert same.holds, same
    assert once.holds, once
    assert problems_of(world.lab) == []
    world.lab.engine.dispose()


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path: Path) -> None:
    shown = resuming.damage_is_noticed(tmp_path, seed=1, flips=30)
    assert shown.holds, shown
