"""Roles: what somebody may do. Each includes the ones before it."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Viewers read, editors train, the owner decides who may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"

    @property
    def meaning(self) -> str:
        return MEANINGS[self]

    def may(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


MEANINGS = {
    Role.VIEWER: "reads everything, changes nothing",
    Role.EDITOR: "queues, steers and deletes runs too",
    Role.OWNER: "also makes tokens, backs up, cleans up and reads the audit log",
}


@dataclass(frozen=True)
class Identity:
    """Who sends a request. Only the gate makes one."""

    name: str
    role: Role
    token_id: int | None = None
    """None where access is off, and everybody is taken for the owner."""
    hash: str = field(default="", repr=False)

    def may(self, needed: str) -> bool:
        return self.role.may(Role(needed))


ANYBODY = Identity("person", Role.OWNER)
"""Where nobody is asked who they are: access is off, or it is a command on this machine."""

actor: ContextVar[Identity] = ContextVar("actor", default=ANYBODY)
"""Who is behind what is being done; set by the gate for each request."""
