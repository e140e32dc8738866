"""Before anything is imported: the tests share a few cores, so each process computes with one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
