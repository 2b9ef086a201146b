"""The page's files: a fixed table, so that no request names a path."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FILES = ("style.css", "icon.svg", "main.js", "api.js", "stream.js", "cameras.js", "drawing.js", "panels.js", "login.js")
Handler = Callable[[Request], Coroutine[None, None, Response]]


def page_router() -> APIRouter:
    """`/` and what belongs to it, read once."""
    router = APIRouter(include_in_schema=False)
    folder = files("edgepose.runtime.daemon.page")
    for name in ("index.html", *_FILES):
        path = "/" if name == "index.html" else f"/page/{name}"
        router.add_api_route(path, _handler(folder.joinpath(name).read_bytes(), _TYPES[name.rpartition(".")[2]]), methods=["GET", "HEAD"])
    return router


def _handler(content: bytes, media_type: str) -> Handler:
    tag = f'"{sha256(content).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}

    async def handle(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return handle
