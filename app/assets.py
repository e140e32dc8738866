"""Assets: scripts out of installed packages, under addresses that change with their content."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from app.missing import NotThere

router = APIRouter(include_in_schema=False)

FOR_EVER = "public, max-age=31536000, immutable"
FROM_PACKAGES = {
    "plotly.min.js": ("plotly", "package_data/plotly.min.js", "text/javascript"),
    "swagger-ui-bundle.js": ("fastapi_offline", "static/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("fastapi_offline", "static/swagger-ui.css", "text/css"),
}


@dataclass(frozen=True)
class Asset:
    """A file as it is sent: packed once, named by its content."""

    name: str
    media_type: str
    packed: bytes
    hash: str

    @property
    def address(self) -> str:
        return f"/assets/{self.hash}/{self.name}"


@cache
def asset(name: str) -> Asset:
    """An asset by name; read and packed at the first call."""
    if name not in FROM_PACKAGES:
        raise NotThere(f"there is no asset {name!r}")
    package, path, media_type = FROM_PACKAGES[name]
    content = files(package).joinpath(path).read_bytes()
    # mtime 0: the same content is the same bytes in every process
    packed = gzip.compress(content, 6, mtime=0)
    return Asset(name, media_type, packed, hashlib.sha256(content).hexdigest()[:16])


@router.get("/assets/{hash}/{name}")
def get_asset(hash: str, name: str, request: Request) -> Response:
    found = asset(name)
    if hash != found.hash:
        raise NotThere(f"there is no asset {name!r} with the hash {hash}")
    headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.packed, media_type=found.media_type, headers=headers)
    return Response(gzip.decompress(found.packed), media_type=found.media_type, headers=headers)
