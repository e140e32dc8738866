"""Gate: the outermost layer of the server. Decides who may come in, before anything else runs."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.admission import SAFE
from app.problems import NOT_JSON, TOO_LARGE, problem
from app.settings import Settings

MOST_BODY_BYTES = 1 << 20
JSON = ("application/json", "application/merge-patch+json")
SECURITY_HEADERS = {
    # Plotly puts a style element of its own into the page, and sizes charts with style attributes
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """Refuses foreign hosts and foreign origins, and puts the security headers on every answer.

    A page elsewhere can make a browser send requests to this machine; the two checks are what
    keeps it from starting or reading runs (DNS rebinding, cross-site requests). Whoever passes is
    then asked who they are: see `app.access.admission`.
    """

    def __init__(self, admission: ASGIApp, settings: Settings) -> None:
        self.hosts = allowed_hosts(settings)
        self.origins = frozenset(settings.cors_origins)
        self.inner = admission
        if self.origins:
            # with a token in a header only: cookies of ours are never sent from elsewhere
            self.inner = CORSMiddleware(
                admission,
                allow_origins=sorted(self.origins),
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
                expose_headers=["ETag", "Location", "Retry-After"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # there is none; closed before it is accepted, the client gets a 403
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.inner(scope, receive, send)
        else:
            sending = with_security_headers(send)
            await (self.refusal(scope) or self.inner)(scope, receive, sending)

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that no browser of our pages and no honest program sends."""
        headers, method = Headers(scope=scope), scope["method"]
        if not scope["path"].startswith("/"):
            return problem(400, "this is no path of this server")
        if "\0" in scope["path"]:
            return problem(400, "the address contains a NUL character")
        if reason := self.wrong_host(headers) or self.wrong_origin(method, headers):
            return problem(403, reason)
        if declared_bytes(headers) > MOST_BODY_BYTES:
            return problem(413, TOO_LARGE)
        if method not in SAFE and has_body(headers) and is_wrong_kind(scope["path"], headers):
            return problem(415, NOT_JSON)
        return None

    def wrong_host(self, headers: Headers) -> str:
        """Why the Host header is not one of ours, or ""."""
        given = headers.getlist("host")
        if len(given) != 1:
            return "a request must name one host"
        name = host_name(given[0])
        if name in self.hosts:
            return ""
        return (
            f"this server does not answer to the name {name!r}; name it in "
            "TRICKLAB_ALLOWED_HOSTS if it should"
        )

    def wrong_origin(self, method: str, headers: Headers) -> str:
        """Why a request that changes something does not come from our own pages, or ""."""
        if method in SAFE:
            return ""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("same-origin", "none"):
            return ""
        if site is None and origin is None:
            # no browser: those send at least one of the two
            return ""
        if origin is not None and (
            origin_host(origin) == headers["host"] or origin in self.origins
        ):
            return ""
        return "a page of another origin may not change anything here"


def allowed_hosts(settings: Settings) -> frozenset[str]:
    names = ("127.0.0.1", "localhost", "::1", settings.host, *settings.allowed_hosts)
    return frozenset(name.lower() for name in names) - {"0.0.0.0", "::"}


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def origin_host(origin: str) -> str:
    """Name and port in an Origin header; "" when it has none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def declared_bytes(headers: Headers) -> int:
    """How large the body says it is; one that does not say is counted while it is read."""
    given = headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() else 0


def has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def is_wrong_kind(path: str, headers: Headers) -> bool:
    """Whether a body is sent to the API as something a form could send, too."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return path.startswith("/api/") and kind not in JSON


def with_security_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
