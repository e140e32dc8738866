"""Keys: who a secret belongs to, looked up at most once a second for each."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.access import tokens
from app.access.roles import ANYBODY, Identity, Role
from app.access.tokens import Kind
from trainer.store.database import reading, writing

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""How long a token may still be taken for good after it was revoked by another process."""
REMEMBERED = 1000


class Keys:
    """Remembers whom it has just seen: a page of many requests is looked up once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seen: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self.noted: OrderedDict[int, float] = OrderedDict()
        # one at a time: those who come in must not take the connections of those who are in
        self.limiter = CapacityLimiter(1)

    async def identify(self, secret: str, kinds: Sequence[Kind]) -> Identity | None:
        """Whom this secret belongs to, or None. Raises SQLAlchemyError."""
        return await self.look(tokens.hash_of(secret), kinds)

    async def still_holds(self, identity: Identity) -> bool:
        """Whether who came in a while ago would be let in again."""
        if identity is ANYBODY:
            return True
        try:
            return await self.look(identity.hash, (Kind.PROGRAM, Kind.BROWSER)) is not None
        except SQLAlchemyError as error:
            # nothing says that it does not, and nothing new can be read either
            log.warning("no look at the tokens: %s", error)
            return True

    def forget(self) -> None:
        """Look everybody up anew: a token was revoked here."""
        self.seen.clear()

    async def look(self, hashed: str, kinds: Sequence[Kind]) -> Identity | None:
        at, known = self.seen.get(hashed, (0.0, None))
        if known is not None and time.monotonic() - at < FRESH_SECONDS:
            return known
        found = await to_thread.run_sync(self.look_up, hashed, kinds, limiter=self.limiter)
        if found is None:
            self.seen.pop(hashed, None)
            return None
        self.seen[hashed] = time.monotonic(), found
        remember(self.seen)
        return found

    def look_up(self, hashed: str, kinds: Sequence[Kind]) -> Identity | None:
        with reading(self.engine) as connection:
            row = tokens.find(connection, hashed, *kinds)
        return None if row is None else Identity(row.name, Role(row.role), row.id, hashed)

    async def note_use(self, identity: Identity) -> None:
        """Write down that a token is in use, now and then; it may wait when the database does."""
        number, now = identity.token_id, time.monotonic()
        if number is None or now - self.noted.get(number, -tokens.USED_EVERY) < tokens.USED_EVERY:
            return
        self.noted[number] = now
        remember(self.noted)
        await to_thread.run_sync(self.write_use, number, limiter=self.limiter)

    def write_use(self, number: int) -> None:
        try:
            with writing(self.engine, durable=False) as connection:
                tokens.note_use(connection, number)
        except SQLAlchemyError as error:
            log.warning("the use of a token was not written down: %s", error)


def remember(known: OrderedDict[str, tuple[float, Identity]] | OrderedDict[int, float]) -> None:
    if len(known) > REMEMBERED:
        known.popitem(last=False)
