"""The queue's view, the storage and its clean-up on PostgreSQL."""

import pytest
from lab import Lab, tiny_config
from test_postgres import PROGRAMS, cluster, lab, url  # noqa: F401

from app import labels, order
from app.cleaning import Cleaning, clean
from app.queue_view import queue_view
from app.storage import usage
from trainer.store.database import reading, writing

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL's programs are not installed")


def test_the_storage_is_told_and_cleaned_there_too(lab: Lab) -> None:  # noqa: F811
    often = {"checkpoint_steps": 3, "checkpoints_kept": 3, "layer_steps": "end"}
    kept = lab.train(tiny_config(budget={"epochs": 2}, recording=often))
    gone = lab.train(tiny_config())
    with writing(lab.engine) as connection:
        labels.archive(connection, gone)
    (lab.settings.folder / "runs" / "77").mkdir()
    (lab.settings.folder / "runs" / "77" / "file").write_bytes(b"xxx")
    with reading(lab.engine) as connection:
        before = usage(connection, lab.settings)
    assert before["database_bytes"] > 10**6
    assert before["checkpoints"]["count"] == 4
    assert before["layer_outputs"]["bytes"] > 0
    assert before["left_overs"] == {"count": 1, "bytes": 3, "is_complete": True}
    assert {run["id"] for run in before["largest"]} == {kept, gone}
    freed = [clean(lab.engine, lab.settings, what).files for what in Cleaning]
    assert freed == [2, 1, 1]
    with reading(lab.engine) as connection:
        after = usage(connection, lab.settings)
    assert after["checkpoints"]["count"] == 1
    assert [run["id"] for run in after["largest"]] == [kept]


def test_the_queue_is_shown_there_too(lab: Lab) -> None:  # noqa: F811
    here, elsewhere = lab.add(tiny_config()), lab.add(tiny_config(device="cuda:1"))
    with writing(lab.engine) as connection:
        order.move(connection, elsewhere, 0)
    with reading(lab.engine) as connection:
        view = queue_view(connection, lab.settings)
    assert [run["id"] for run in view["waiting"]] == [elsewhere, here]
    assert [bool(run["waits_for"]) for run in view["waiting"]] == [True, False]
