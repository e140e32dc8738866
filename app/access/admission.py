"""Admission: asks everybody who they are before anything of the application runs."""

import logging
from functools import partial
from urllib.parse import quote, urlencode

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access import audit
from app.access.keys import Keys
from app.access.roles import ANYBODY, Identity, Role, actor
from app.access.tokens import Kind, is_beyond_guessing
from app.access.tries import Tries
from app.problems import Show, on_database, problem, shown_to, wants_a_page
from app.settings import Settings
from trainer.store.database import writing

log = logging.getLogger(__name__)

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC = ("/healthz", "/login", "/static")
"""All that is answered to somebody unknown; and what lies below."""
NOT_NOTED = ("/runs/new/check", "/api/v1/check", "/login")
"""What is sent as a change would be and only asks; and the login, which writes its own line."""
OWNERS = ("/api/v1/tokens", "/api/v1/audit", "/settings/tokens", "/settings/audit")
"""All that only an owner may see; and what lies below."""
EDITORS = ("/runs/new",)
"""All that only who may train has a use for; and what lies below."""
OWNERS_CHANGES = ("/settings", "/api/v1/storage")
"""All that only an owner may change; and what lies below."""


def role_needed(method: str, path: str) -> Role | None:
    """Who may do this: None means everybody. What is named nowhere takes a viewer or an editor."""
    if is_below(path, PUBLIC):
        return None
    if is_below(path, OWNERS) or (method not in SAFE and is_below(path, OWNERS_CHANGES)):
        return Role.OWNER
    # everybody may log out
    reads = method in SAFE and not is_below(path, EDITORS)
    return Role.VIEWER if reads or path == "/logout" else Role.EDITOR


def is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def cookie_name(settings: Settings) -> str:
    """Browsers keep cookies by host alone: two labs on one host would log each other out."""
    return f"tricklab_{settings.port}"


def client_address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


class Admission:
    """Lets in those whose role is enough, and writes down what they changed."""

    def __init__(
        self, app: ASGIApp, settings: Settings, engine: Engine, keys: Keys, tries: Tries, show: Show
    ) -> None:
        self.app = app
        self.settings = settings
        self.engine = engine
        self.keys = keys
        self.tries = tries
        self.show = show
        self.writers = CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.admit(scope, receive, send)
        else:
            # the start and the end of the server; nobody asks for anything
            await self.app(scope, receive, send)

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        # not request.url.path: that ends at a question mark even where one was encoded
        needed = role_needed(request.method, scope["path"])
        wait = self.tries.wait_seconds(client_address(request))
        try:
            identity = await self.identify(request, wait)
        except SQLAlchemyError as error:
            await shown_to(request, await on_database(request, error), self.show)(
                scope, receive, send
            )
            return
        send = self.with_audit(request, identity, send)
        mark = actor.set(identity or NOBODY)
        try:
            refusal = None if needed is None else self.refusal(request, identity, needed, wait)
            await (refusal or self.app)(scope, receive, send)
        finally:
            actor.reset(mark)
        if identity is not None:
            await self.keys.note_use(identity)

    # -- who it is --------------------------------------------------------------------------

    async def identify(self, request: Request, wait: int) -> Identity | None:
        """Who sends this; None for somebody unknown.

        While an address must wait, only tokens are tried that nobody could guess: somebody's old
        script must not lock everybody out.
        """
        if self.settings.access == "off":
            return ANYBODY
        bearer = bearer_of(request.headers)
        if bearer is None:
            secret = request.cookies.get(cookie_name(self.settings), "")
            return await self.keys.identify(secret, [Kind.BROWSER]) if secret else None
        if wait and not is_beyond_guessing(bearer):
            return None
        found = await self.keys.identify(bearer, [Kind.PROGRAM])
        if found is None:
            self.tries.fail(client_address(request))
        return found

    def refusal(
        self, request: Request, identity: Identity | None, needed: Role, wait: int
    ) -> Response | None:
        """Why they may not, or None when they may."""
        if identity is not None and identity.role.may(needed):
            return None
        if identity is not None:
            detail = (
                f"{identity.name} is a{'n' * (identity.role != Role.VIEWER)} {identity.role}; "
                f"this takes {'the' if needed == Role.OWNER else 'an'} {needed}"
            )
            return shown_to(request, problem(403, detail), self.show)
        if wait and bearer_of(request.headers) is not None:
            return too_many_tries(wait)
        if wants_a_page(request):
            return to_login(request)
        detail = "send a good token in the Authorization header; `tricklab token make` makes one"
        return problem(401, detail, {"WWW-Authenticate": 'Bearer realm="tricklab"'})

    # -- what they did ----------------------------------------------------------------------

    def with_audit(self, request: Request, identity: Identity | None, send: Send) -> Send:
        """Write down each change, and each that was not allowed, before its answer is begun."""
        is_noted = request.method not in SAFE and request.scope["path"] not in NOT_NOTED
        if identity is None or not is_noted:
            return send

        async def sending(message: Message) -> None:
            # nothing was changed by what failed inside, and the database may be why
            if message["type"] == "http.response.start" and message["status"] < 500:
                line = partial(
                    audit.note,
                    who=identity.name,
                    role=identity.role,
                    address=client_address(request),
                    method=request.method,
                    path=request.scope["path"],
                    status=message["status"],
                )
                await to_thread.run_sync(self.write, line, limiter=self.writers)
            await send(message)

        return sending

    def write(self, line: "partial[None]") -> None:
        try:
            with writing(self.engine) as connection:
                line(connection)
        except SQLAlchemyError as error:
            log.error("not written to the audit log: %s: %s", line.keywords, error)


NOBODY = Identity("nobody", Role.VIEWER)
"""Who asks for what everybody may see."""


def bearer_of(headers: Headers) -> str | None:
    """The secret in the Authorization header; None without one, "" in one of another kind."""
    given = headers.get("authorization")
    if given is None:
        return None
    scheme, _, secret = given.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def too_many_tries(wait: int) -> Response:
    detail = f"too many wrong tokens from this address; try again in {wait} seconds"
    return problem(429, detail, {"Retry-After": str(wait)})


def to_login(request: Request) -> Response:
    """To the login page, which leads back here."""
    if request.method not in SAFE:
        return RedirectResponse("/login", 303)
    wanted = quote(request.scope["path"]) + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?{urlencode({'next': wanted})}", 303)
