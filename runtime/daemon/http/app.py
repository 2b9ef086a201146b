"""The FastAPI application: routes, and one form for all errors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from edgepose.runtime.daemon.http import camera_routes, inference_routes, operator_routes, stream_routes
from edgepose.runtime.daemon.http.gate import Guard, Refusal
from edgepose.runtime.daemon.http.models import ErrorModel
from edgepose.runtime.daemon.http.page_files import page_router
from edgepose.runtime.daemon.http.parts import Parts

_DESCRIPTION = (
    "Poses of the cameras that this daemon looks at. Where tokens are configured, everything but /healthz, /readyz and the login wants "
    '\'Authorization: Bearer TOKEN\', or the cookie of POST /api/login. Every error is {"error": "..."}.'
)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorModel, "description": said}
    for status, said in {
        401: "A token is wanted, or this one is nobody's",
        403: "Another role is wanted, or another page asks",
        404: "No such camera",
        422: "A parameter or body is wrong",
        429: "Too many requests, or too many wrong tokens",
        503: "Not now",
    }.items()
}


def application(parts: Parts) -> ASGIApp:
    """All of it, guarded."""
    app = FastAPI(
        title="pose-daemon",
        version=version("edgepose"),
        description=_DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=_ERRORS,
    )
    app.state.parts = parts
    app.state.health = inference_routes.Health(parts)
    for module in (camera_routes, stream_routes, inference_routes, operator_routes):
        app.include_router(module.router)
    for router in (operator_routes.admin_router, operator_routes.open_router, inference_routes.open_router):
        app.include_router(router)
    if parts.settings.page:
        app.include_router(page_router())
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(WebSocketRequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return Guard(app, parts.gate)


async def _refused(connection: Any, error: Exception) -> Any:
    """Starlette's types keep handlers of requests and of WebSockets apart; these are both."""
    if isinstance(error, Refusal):
        answer = JSONResponse({"error": error.error}, error.status, dict(error.headers))
    else:
        assert isinstance(error, HTTPException)
        answer = JSONResponse({"error": str(error.detail).lower()}, error.status_code, error.headers)
    return await _answered(connection, answer)


async def _invalid(connection: Any, error: Exception) -> Any:
    assert isinstance(error, (RequestValidationError, WebSocketRequestValidationError))
    said = "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
    return await _answered(connection, JSONResponse({"error": said}, 422))


async def _failed(_request: Request, _error: Exception) -> Response:
    """The traceback is in the log, where uvicorn puts it."""
    return JSONResponse({"error": "this went wrong inside the daemon: its log says more"}, 500)


async def _answered(connection: HTTPConnection, answer: Response) -> Response | None:
    """A WebSocket that has not begun gets the same answer."""
    if connection.scope["type"] != "websocket":
        return answer
    await cast(WebSocket, connection).send_denial_response(answer)
    return None
