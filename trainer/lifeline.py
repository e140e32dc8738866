"""Lifeline: a process that dies when its parent does."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends. Linux only; elsewhere nothing."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # it died between the two calls, before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_starter() -> None:
    """Die when the process ends that started this one, even where a fork server made it."""
    die_with_parent()
    starter = multiprocessing.parent_process()
    if starter is None or starter.pid == os.getppid():
        return

    def wait() -> None:
        starter.join()
        os.kill(os.getpid(), signal.SIGKILL)

    # to the kernel the parent is the fork server, which may live on
    threading.Thread(target=wait, name="lifeline", daemon=True).start()
