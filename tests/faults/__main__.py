"""`python -m faults`: the long form of the fault suite."""

import sys

from faults.suite import main

# apart from the suite: processes that are started for it must find its functions by import
if __name__ == "__main__":
    sys.exit(main())
