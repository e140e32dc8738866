"""Tries: how often a client may be wrong about a secret."""

import time
from collections import OrderedDict, deque

MOST = 10
WINDOW_SECONDS = 600.0
CLIENTS = 10_000


class Tries:
    """The failures of each client within the last ten minutes; forgets the oldest clients."""

    def __init__(self) -> None:
        self.failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, client: str) -> int:
        """How long this client must wait before it may try again; 0 when it need not."""
        failures = self.failures.get(client, deque[float]())
        oldest = time.monotonic() - WINDOW_SECONDS
        while failures and failures[0] < oldest:
            failures.popleft()
        return 0 if len(failures) < MOST else int(failures[0] - oldest) + 1

    def fail(self, client: str) -> None:
        self.failures.setdefault(client, deque(maxlen=MOST)).append(time.monotonic())
        self.failures.move_to_end(client)
        if len(self.failures) > CLIENTS:
            self.failures.popitem(last=False)
