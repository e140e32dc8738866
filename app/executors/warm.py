"""Warm: importing this loads all that a run will need, so that a process forked after it starts at
once: torch's lazily loaded parts cost a run seconds otherwise.

Nothing is computed here: a process that has used its threads must not fork.
"""

import gc

import app.cli
import app.executors.training  # noqa: F401
from trainer.check import facts
from trainer.config import RunConfig

# shapes alone, on the meta device: loads what torch decomposes operations with
facts(RunConfig())

# torch alone is a million objects: frozen, the collector of no run looks through them, and their
# pages stay shared
gc.collect()
gc.freeze()
