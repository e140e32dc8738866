"""Training with tricks: PyTorch, pydantic and the store. Nothing here knows of the web."""

import os

# Before torch is loaded: its OpenMP threads wait for each other in a loop, hundreds of times as
# long by default, and two trainings that want the same cores then take forty times as long; see
# docs/measurements.md.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
