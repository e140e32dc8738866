"""ForkServer: a process with torch loaded, from which runs are forked. Itself without torch.

So a worker can have it started before it loads torch too: the two load side by side.
"""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

PRELOADED = ("app.executors.bound", "app.executors.warm")


def context() -> ForkServerContext:
    """The way to start processes that are forked from it."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found


def begin() -> None:
    """Have it started, and come back at once."""
    context()
    forkserver.ensure_running()
