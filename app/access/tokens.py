"""Tokens: secrets with a role, known here by their hashes only.

Those of programs are made by the owner. A browser that logs in gets one of its own, made from the
one it logged in with and gone with it; an address that logs in once is one too.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.access.roles import Role
from app.missing import NotThere
from app.models import tokens
from trainer.part import Refused
from trainer.store.database_clock import database_now

PREFIX, LENGTH = "tl_", 46
"""So that a secret that leaked is recognised by whatever looks for such."""
FROM_ENVIRONMENT = "TRICKLAB_TOKEN"
OWNER = "owner"
"""Who comes by an address that the server printed."""
RESERVED = (FROM_ENVIRONMENT.lower(), OWNER, "person", "queue", "nobody")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SHOWN = ("id", "name", "role", "kind", "made_from", "made_at", "used_at", "expires_at")
"""What is told of a token; nothing that could be tried out elsewhere."""
BROWSER_DAYS, ONCE_DAYS = 90, 1
DAY = 86_400.0
USED_EVERY = 60.0
"""The last use is written down at most this often, in seconds."""


class Kind(StrEnum):
    """How a token comes along."""

    PROGRAM = "program"  # in the Authorization header
    BROWSER = "browser"  # in a cookie
    ONCE = "once"  # in an address, good for one login


def hash_of(secret: str) -> str:
    """What is stored of a secret. A plain hash will do: there is nothing to guess in 256 bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_beyond_guessing(secret: str) -> bool:
    """Whether it looks like one made here: of those nobody finds one by trying."""
    return secret.startswith(PREFIX) and len(secret) == LENGTH


# -- made -----------------------------------------------------------------------------------


def make(connection: Connection, name: str, role: Role) -> str:
    """A new token for a person or a program; the secret, which nobody can show again.

    Refused for a name that cannot be, or that a token has that is still good.
    """
    if not NAME.fullmatch(name) or name.lower() in RESERVED:
        raise Refused(
            f"{name!r} cannot name a token: up to 64 letters, digits and . _ @ - without spaces, "
            f"and none of {', '.join(RESERVED)}"
        )
    mine = (tokens.c.name == name) & (tokens.c.kind == Kind.PROGRAM) & is_good()
    if connection.execute(select(tokens.c.id).where(mine)).first():
        raise Refused(f"there is a token {name!r} already; revoke it first, or choose another name")
    return put(connection, Kind.PROGRAM, name, role)


def make_once(connection: Connection) -> str:
    """A secret that logs one browser in as the owner; those that nobody used in time are gone."""
    connection.execute(delete(tokens).where(tokens.c.kind == Kind.ONCE, ~is_good()))
    return put(connection, Kind.ONCE, OWNER, Role.OWNER, days=ONCE_DAYS)


def make_for_browser(connection: Connection, given: Row[Any]) -> str:
    """A browser's own secret, as good as the one it logged in with, which is used by that."""
    note_use(connection, given.id)
    connection.execute(delete(tokens).where(tokens.c.kind == Kind.BROWSER, ~is_good()))
    made_from = None if given.kind == Kind.ONCE else given.id
    return put(connection, Kind.BROWSER, given.name, Role(given.role), BROWSER_DAYS, made_from)


def put(
    connection: Connection,
    kind: Kind,
    name: str,
    role: Role,
    days: float | None = None,
    made_from: int | None = None,
    secret: str = "",
) -> str:
    secret = secret or PREFIX + secrets.token_urlsafe(32)
    connection.execute(
        insert(tokens).values(
            kind=kind,
            name=name,
            role=role,
            hash=hash_of(secret),
            made_from=made_from,
            made_at=database_now(),
            expires_at=None if days is None else database_now() + days * DAY,
        )
    )
    return secret


def adopt(connection: Connection, secret: str | None) -> None:
    """Let the secret of TRICKLAB_TOKEN be the owner's, and the one it had before no longer."""
    mine = (tokens.c.name == FROM_ENVIRONMENT) & (tokens.c.kind == Kind.PROGRAM)
    hashed = hash_of(secret) if secret else ""
    for row in connection.execute(select(tokens).where(mine, tokens.c.hash != hashed)):
        revoke_row(connection, row.id)
    if not secret:
        return
    known = connection.execute(select(tokens).where(tokens.c.hash == hashed)).one_or_none()
    if known is None:
        put(connection, Kind.PROGRAM, FROM_ENVIRONMENT, Role.OWNER, secret=secret)
    else:
        # used before, given up for another, and now used again
        again = update(tokens).where(tokens.c.id == known.id, mine)
        connection.execute(again.values(revoked_at=None))


# -- known ----------------------------------------------------------------------------------


def is_good() -> ColumnElement[bool]:
    lasts = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > database_now())
    return tokens.c.revoked_at.is_(None) & lasts


def find(connection: Connection, hashed: str, *kinds: Kind) -> Row[Any] | None:
    """The token with this hash, when it is of one of the kinds and still good."""
    wanted = select(tokens).where(tokens.c.hash == hashed, tokens.c.kind.in_(kinds), is_good())
    return connection.execute(wanted).one_or_none()


def use_once(connection: Connection, secret: str) -> Row[Any] | None:
    """The token of an address, which is gone with this."""
    mine = (tokens.c.hash == hash_of(secret)) & (tokens.c.kind == Kind.ONCE) & is_good()
    return connection.execute(delete(tokens).where(mine).returning(tokens)).one_or_none()


def note_use(connection: Connection, token_id: int) -> None:
    """Write down that a token was used, and the one it was made from with it."""
    made_from = select(tokens.c.made_from).where(tokens.c.id == token_id).scalar_subquery()
    used = or_(tokens.c.id == token_id, tokens.c.id == made_from)
    connection.execute(update(tokens).where(used).values(used_at=database_now()))


def listed(connection: Connection) -> Sequence[Row[Any]]:
    """Tokens that are good, of programs and of browsers, the newest first."""
    shown = tokens.c.kind.in_([Kind.PROGRAM, Kind.BROWSER])
    columns = [tokens.c[name] for name in SHOWN]
    query = select(*columns).where(shown, is_good()).order_by(tokens.c.id.desc())
    return connection.execute(query).all()


def has_any(connection: Connection) -> bool:
    """Whether somebody beside the owner of the machine could log in."""
    good = select(tokens.c.id).where(tokens.c.kind == Kind.PROGRAM, is_good())
    return connection.execute(good.limit(1)).first() is not None


# -- revoked --------------------------------------------------------------------------------


def revoke(connection: Connection, token_id: int) -> Row[Any]:
    """Take a token back, and every browser's that was made from it. Raises NotThere."""
    mine = (tokens.c.id == token_id) & tokens.c.kind.in_([Kind.PROGRAM, Kind.BROWSER])
    row = connection.execute(select(tokens).where(mine, is_good())).one_or_none()
    if row is None:
        raise NotThere(f"there is no token {token_id} that could be revoked")
    if row.name == FROM_ENVIRONMENT and row.kind == Kind.PROGRAM:
        raise Refused(
            f"{FROM_ENVIRONMENT} comes from the environment of the server: take it out there and "
            "start the server anew"
        )
    revoke_row(connection, row.id)
    return row


def number_of(connection: Connection, name: str) -> int:
    """The number of the token with this name. Raises NotThere."""
    mine = (tokens.c.name == name) & (tokens.c.kind == Kind.PROGRAM) & is_good()
    found = connection.execute(select(tokens.c.id).where(mine)).scalar_one_or_none()
    if found is None:
        raise NotThere(f"there is no token {name!r}")
    return int(found)


def revoke_row(connection: Connection, token_id: int) -> None:
    its = or_(tokens.c.id == token_id, tokens.c.made_from == token_id)
    still = tokens.c.revoked_at.is_(None)
    connection.execute(update(tokens).where(its, still).values(revoked_at=database_now()))
