"""Before anything is imported: the tests share a few cores, so each process computes with one.

They need not log in, except those that are about that.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRICKLAB_ACCESS", "off")
