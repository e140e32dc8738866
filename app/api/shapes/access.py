"""Shapes of tokens, of who is asking, and of who did what."""

from pydantic import Field

from app.access.roles import Role
from app.access.tokens import Kind
from app.api.shapes.shape import Moment, Shape


class Me(Shape):
    """Who is asking."""

    name: str
    role: Role


class Token(Shape):
    """A token, without its secret, which nobody has but who uses it."""

    id: int
    name: str = Field(description="Who uses it; a browser's is that of what it logged in with.")
    role: Role
    kind: Kind
    made_from: int | None = Field(description="What the browser logged in with, where that lasts.")
    made_at: Moment
    used_at: Moment | None = Field(description="The last use, to the minute.")
    expires_at: Moment | None


class Tokens(Shape):
    """The tokens that are good, the newest first."""

    tokens: list[Token]


class TokenMade(Shape):
    """A new token with its secret, which is shown this once."""

    id: int
    name: str
    role: Role
    token: str


class AuditLine(Shape):
    """One thing that somebody did or tried."""

    id: int
    at: Moment
    who: str
    role: str = Field(description="As it was then; empty for somebody unknown.")
    address: str = Field(description="Of the client.")
    method: str
    path: str = Field(description="Without its query.")
    status: int = Field(description="Of the answer: from 400 on nothing was done.")


class Audit(Shape):
    """Lines of the audit log, the newest first."""

    lines: list[AuditLine]
