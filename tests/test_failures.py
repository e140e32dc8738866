"""Failures: each by its name, with what helps whoever has to mend it."""

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, quick_config, tiny_config
from sqlalchemy.exc import OperationalError

from app.models import Status
from trainer.failures import Cause, DiskShort, Diverged, failure_of, whose
from trainer.lighter import lighter
from trainer.part import Refused
from trainer.tasks import Digits
from trainer.tricks import GradientAccumulation

FACTS = {"peak_memory_bytes": 5_000_000}


def raised(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def full_database() -> sqlite3.OperationalError:
    """What SQLite itself says when it can grow no further."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA max_page_count = 2")
    error = raised(lambda: connection.execute("INSERT INTO t VALUES (zeroblob(100000))"))
    connection.close()
    assert isinstance(error, sqlite3.OperationalError)
    return error


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (Refused("choose another"), Cause.REFUSED, "choose another"),
        (torch.OutOfMemoryError("x"), Cause.OUT_OF_MEMORY, "had taken 5 MB at its peak"),
        (MemoryError(), Cause.OUT_OF_MEMORY, "out of memory"),
        (
            raised(lambda: torch.empty(2**60)),
            Cause.OUT_OF_MEMORY,
            "out of memory",
        ),
        (OSError(errno.ENOSPC, "No space left"), Cause.DISK_FULL, "the disk is full"),
        (OSError(errno.EDQUOT, "quota"), Cause.DISK_FULL, "the disk is full"),
        (OperationalError("", {}, full_database()), Cause.DISK_FULL, "the disk is full"),
        (DiskShort("needs 5 MB"), Cause.DISK_FULL, "needs 5 MB"),
        (OSError(errno.EACCES, "denied"), Cause.EXCEPTION, "PermissionError: [Errno 13] denied"),
        (RuntimeError("a\nb"), Cause.EXCEPTION, "RuntimeError: a b"),
        (KeyError(), Cause.EXCEPTION, "KeyError"),
        (Diverged(7, float("nan"), None), Cause.DIVERGED, "the training loss became NaN at step 7"),
    ],
)
def test_an_error_gets_its_name_and_words(error: BaseException, cause: Cause, words: str) -> None:
    failure = failure_of(error, FACTS)
    assert failure.cause == cause
    assert words in failure.reason
    assert cause.advice.endswith(".")


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("/home/me/my_model.py", "yours"),
        (torch.nn.modules.conv.__file__, "a library's"),
        (pytest.__file__, "a library's"),
        (sqlite3.__file__, "a library's"),
        ("<string>", "a library's"),
        (str(Path(__file__).parent.parent / "trainer" / "loop.py"), "Tricklab's"),
        (str(Path(__file__).parent.parent / "app" / "queue.py"), "Tricklab's"),
        (__file__, "yours"),
    ],
)
def test_a_frame_belongs_to_whoever_wrote_its_file(file: str, owner: str) -> None:
    assert whose(file) == owner


def test_an_error_in_a_persons_own_code_is_told_with_that_frame_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Digits, folders: object) -> None:
        torch.zeros(2) @ torch.zeros(3)

    monkeypatch.setattr(Digits, "load", broken)
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(tiny_config()))
    assert (run.status, run.cause) == (Status.FAILED, "exception")
    assert run.reason.startswith("RuntimeError: inconsistent tensor size")
    first, *rest = run.failure["frames"]
    assert (first["file"], first["function"], first["whose"]) == (__file__, "broken", "yours")
    assert first["code"] == "torch.zeros(2) @ torch.zeros(3)"
    assert {frame["whose"] for frame in rest} == {"Tricklab's"}
    assert run.failure["type"] == "RuntimeError"
    assert "in broken" in run.failure["traceback"]


def test_a_view_of_a_channels_last_tensor_is_explained_with_the_tensor_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Digits, folders: object) -> None:
        features = torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
        features.view(2, -1)

    monkeypatch.setattr(Digits, "load", broken)
    lab = Lab.at(tmp_path)
    told = lab.run(lab.train(tiny_config())).failure["explanation"]
    assert "features is 2 x 3 x 4 x 5 with strides 60, 1, 15, 3 (channels_last)" in told
    assert "flatten() or reshape()" in told


def test_an_error_that_says_it_all_is_not_explained() -> None:
    error = raised(lambda: torch.zeros(2, 3).view(7))
    assert "explanation" not in failure_of(error, FACTS).details


# -- less memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "steps", "half", "twice"), [(64, None, 32, 2), (33, None, 17, 2), (8, 3, 4, 6)]
)
def test_the_lighter_config_has_half_the_batch_and_twice_the_accumulation(
    size: int, steps: int | None, half: int, twice: int
) -> None:
    tricks: list[dict[str, Any]] = [{"name": "seed"}]
    if steps:
        tricks.append(
            {"name": "gradient_accumulation", "steps": steps, "learning_rate_rule": "sqrt"}
        )
    config = quick_config(loader={"batch_size": size}, tricks=tricks)
    lighter_config = lighter(config)
    assert lighter_config.loader.batch_size == half
    found = [t for t in lighter_config.tricks if isinstance(t, GradientAccumulation)]
    assert [trick.steps for trick in found] == [twice]
    assert found[0].learning_rate_rule == ("sqrt" if steps else "none")
    assert len(lighter_config.tricks) == 2
    assert lighter_config.model == config.model


def test_what_cannot_be_made_lighter_is_refused() -> None:
    with pytest.raises(Refused, match="a batch is one example already; choose a smaller network"):
        lighter(quick_config(loader={"batch_size": 1}))
    many = {"name": "gradient_accumulation", "steps": 1024}
    with pytest.raises(Refused, match="gradients are added up over 1024 batches already"):
        lighter(quick_config(tricks=[many]))
