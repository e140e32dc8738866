"""Compression: answers travel packed to other machines, and as they are on this one."""

import ipaddress

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

SMALLEST_BYTES = 1024
LEVEL = 4
"""Of zlib: a third of the time of its best, and a few hundredths larger."""


class Compressed:
    """Packs answers for clients that take gzip.

    Not for those on this machine: packing takes longer there than carrying ever could. A proxy in
    front, which is on this machine too, packs what it passes on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.packing = GZipMiddleware(app, minimum_size=SMALLEST_BYTES, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_near = is_loopback((scope.get("client") or ("localhost",))[0])
        await (self.app if is_near else self.packing)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is on this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
