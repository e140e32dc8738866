"""Training with tricks: PyTorch, pydantic and the store. Nothing here knows of the web."""

import os

# Before torch is loaded: threads of OpenMP that wait for each other in a loop make training ten
# times slower when another process wants the same cores; see docs/measurements.md.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
