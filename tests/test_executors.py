"""The local executor: processes that are started and awaited by two threads at once."""

import os
import threading
import time
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

import pytest

from app.executors.local import LocalExecutor
from app.settings import Settings

EXIT_CODE = 7


def end_at_once(claim: Any, settings: Settings) -> None:
    os._exit(EXIT_CODE)


def test_a_thread_that_starts_a_process_does_not_take_the_end_of_another_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = LocalExecutor(Settings(folder=tmp_path))
    executor.warm_up()
    first = executor.start(end_at_once, None, "first", lambda text: None)
    connection.wait([first.process.sentinel])
    read_at_once = forkserver.read_signed

    def read_slowly(file: int) -> int:
        # so long that both threads have seen that there is something to read
        time.sleep(0.5)
        return int(read_at_once(file))

    monkeypatch.setattr(forkserver, "read_signed", read_slowly)
    waiting = threading.Thread(target=first.wait, args=(5,))
    waiting.start()
    time.sleep(0.1)
    second = executor.start(end_at_once, None, "second", lambda text: None)
    waiting.join()
    assert first.exit_code == EXIT_CODE
    assert second.wait(60)
    assert second.exit_code == EXIT_CODE
