"""What operators ask: status, metrics, configuration, log, and who they are."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from importlib.metadata import version
from threading import Thread
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from edgepose.engines.errors import ConfigError
from edgepose.runtime.daemon.http.gate import Refusal, Visitor, wanted
from edgepose.runtime.daemon.http.machine import machine_state
from edgepose.runtime.daemon.http.models import (
    CameraModel,
    EngineModel,
    ErrorModel,
    LogModel,
    ReloadModel,
    SessionModel,
    StatusModel,
)
from edgepose.runtime.daemon.http.parts import Here, Parts
from edgepose.runtime.daemon.http.request_body import body_of
from edgepose.runtime.daemon.site import ReloadReport

router = APIRouter(dependencies=[Depends(wanted("read"))])
admin_router = APIRouter(dependencies=[Depends(wanted("admin"))])
open_router = APIRouter()
_LARGEST_CONFIGURATION = 1_000_000
_LARGEST_LOGIN = 4096
_TOML_TEXT = {"schema": {"type": "string", "examples": ['bundle = "human-pose.pose"']}}
_TOML = {"requestBody": {"required": True, "content": {"application/toml": _TOML_TEXT, "text/plain": _TOML_TEXT}}}
_LOGIN_SCHEMA = {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"], "example": {"token": "epd_..."}}
_LOGIN = {"requestBody": {"required": True, "content": {"application/json": {"schema": _LOGIN_SCHEMA}}}}


@router.get("/api/status", summary="Everything at a glance", response_model=StatusModel)
async def status(here: Here) -> StatusModel:
    return await here.ask(_status, here)


def _status(here: Parts) -> StatusModel:
    execution, hottest = here.site.execution, max(machine_state().temperatures_c.values(), default=None)
    return StatusModel(
        version=version("edgepose"),
        uptime_s=round(time.monotonic() - here.site.began_s, 1),
        ready=here.site.ready(),
        engine=EngineModel.model_validate(execution),
        cameras=[CameraModel.model_validate(camera) for camera in here.site.cameras()],
        temperature_c=hottest,
        services={name: dict(told) for name, told in here.services().items()},
    )


@router.get(
    "/metrics",
    summary="For Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
)
async def metrics(here: Here) -> Response:
    return Response(await here.ask(here.metrics.text), media_type="text/plain; version=0.0.4; charset=utf-8")


@admin_router.get("/api/config", summary="The configuration that holds", response_model=dict[str, Any])
async def configuration(here: Here) -> Response:
    """Without secrets."""
    return Response(orjson.dumps(await here.ask(here.site.configuration), default=str), media_type="application/json")


async def _reloaded(here: Parts, text: str) -> ReloadReport:
    """In a thread that the end of the process does not wait for, as it does for an executor's: an engine may take minutes to open."""
    report = Future[ReloadReport]()
    report.set_running_or_notify_cancel()

    def reload() -> None:
        try:
            report.set_result(here.site.reload(text))
        except Exception as error:  # the top of a thread: it is raised to whoever asked
            report.set_exception(error)

    Thread(target=reload, name="edgepose http reload", daemon=True).start()
    return await asyncio.wrap_future(report)


@admin_router.put(
    "/api/config",
    summary="Another configuration",
    openapi_extra=_TOML,
    response_model=ReloadModel,
    responses={409: {"model": ReloadModel, "description": "The old one was put back"}, 413: {"model": ErrorModel}},
)
async def put_configuration(request: Request, here: Here) -> Response:
    """The body is TOML. It is validated first (422 says what is wrong), then applied, and written to the daemon's file once it holds; where
    its address cannot be listened at, or the new state does not become healthy, the old one holds: 409, with the reason."""
    try:
        text = (await body_of(request, _LARGEST_CONFIGURATION)).decode("utf-8-sig")
        report = await _reloaded(here, text)
    except (ConfigError, UnicodeDecodeError) as error:
        raise Refusal(422, str(error)) from error
    except ClientDisconnect:
        return Response(status_code=400)
    answer = ReloadModel(applied=report.applied, reason=report.reason, changes=list(report.changes))
    return JSONResponse(answer.model_dump(), 200 if report.applied else 409)


@admin_router.get("/api/logs", summary="The last lines of the log", response_model=LogModel)
async def logs(here: Here, lines: Annotated[int, Query(ge=1, le=10_000)] = 200) -> LogModel:
    """Oldest first."""
    return LogModel(lines=list(here.log_tail.lines(lines)))


@open_router.get("/api/session", summary="Who is asking", response_model=SessionModel)
async def session(request: Request, here: Here) -> SessionModel:
    visitor: Visitor = request.state.visitor
    return SessionModel(role=visitor.role, name=visitor.name, login=not here.gate.is_open)


@open_router.post(
    "/api/login",
    summary="A cookie for a token",
    openapi_extra=_LOGIN,
    response_model=SessionModel,
    responses={409: {"model": ErrorModel, "description": "No tokens are configured"}, 413: {"model": ErrorModel}},
)
async def login(request: Request, here: Here) -> Response:
    """For browsers, whose pictures and WebSockets cannot carry a header. The cookie is signed, holds for `session_minutes` after it was
    last used, and scripts cannot read it."""
    if here.gate.is_open:
        raise Refusal(409, "this server knows no tokens: nothing to log in to")
    try:
        token = _token_in(await body_of(request, _LARGEST_LOGIN))
    except ClientDisconnect:
        return Response(status_code=400)
    visitor = here.gate.visitor_with(token, request.client.host if request.client else "")
    assert visitor.holder is not None
    answer = JSONResponse(SessionModel(role=visitor.role, name=visitor.name, login=True).model_dump())
    answer.headers["set-cookie"] = here.gate.cookie(here.gate.sessions.begin(visitor.holder), here.gate.sessions.seconds)
    return answer


def _token_in(body: bytes) -> str:
    try:
        token = orjson.loads(body)["token"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise Refusal(422, 'wanted a JSON object {"token": "..."}') from error
    if not isinstance(token, str):
        raise Refusal(422, 'wanted a JSON object {"token": "..."} with a string')
    return token


@open_router.post("/api/logout", summary="Forgets the cookie", response_model=SessionModel)
async def logout(here: Here) -> Response:
    answer = JSONResponse(SessionModel(role=None, name=None, login=not here.gate.is_open).model_dump())
    answer.headers["set-cookie"] = here.gate.cookie("", 0)
    return answer
