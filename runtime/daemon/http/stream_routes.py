"""What goes on and on: people and events as WebSocket and server-sent events, pictures as motion JPEG."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from edgepose.runtime.daemon.http.broadcast import Broadcast, Item, Kind, Outlet
from edgepose.runtime.daemon.http.gate import Refusal, Visitor, wanted
from edgepose.runtime.daemon.http.models import PosesModel
from edgepose.runtime.daemon.http.parts import CameraFilter, CameraName, Here, Parts

router = APIRouter(dependencies=[Depends(wanted("read"))])
_BOUNDARY = "edgepose-frame"
_NOTHING_TO_SAY = 1003
_GOING_AWAY = 1001
_LOGIN_OVER = 1008
_SSE_COMMENT = b": nothing new\n\n"

Events = Annotated[bool, Query(description="Events too")]
PicturesToo = Annotated[bool, Query(description="Pictures too, as binary messages: see docs/daemon-http.md")]


@router.websocket("/api/poses/stream")
async def poses_by_websocket(
    socket: WebSocket, here: Here, camera: CameraFilter = None, events: Events = False, pictures: PicturesToo = False
) -> None:
    """A text message a result, as /api/poses/latest has it. The client has nothing to say: who does is disconnected."""
    await here.check_camera(camera)
    kinds = _kinds(events, pictures)
    await socket.accept()
    async with _outlet(here.broadcast, "websocket", kinds, camera) as outlet:
        listener = asyncio.create_task(_listen(socket, outlet))
        try:
            await _send_all(socket, outlet, here, camera)
        except WebSocketDisconnect:
            pass
        finally:
            listener.cancel()


async def _send_all(socket: WebSocket, outlet: Outlet, here: Parts, camera: str | None) -> None:
    ends_s = _end(socket.state.visitor)
    while not outlet.closed:
        item = await outlet.take()
        if item is None:
            await _check(here, camera, ends_s, outlet)
        elif item.kind == "picture":
            await socket.send_bytes(item.data)
        else:
            await socket.send_text(item.data.decode())
    if socket.client_state is WebSocketState.CONNECTED:
        await socket.close(_LOGIN_OVER if _over(ends_s) else _NOTHING_TO_SAY if outlet.spoken_to else _GOING_AWAY)


async def _listen(socket: WebSocket, outlet: Outlet) -> None:
    """Until the client goes, or says something."""
    message = await socket.receive()
    outlet.spoken_to = message["type"] == "websocket.receive"
    outlet.close()


@router.get(
    "/api/poses/stream",
    summary="All people, as server-sent events",
    responses={200: {"model": PosesModel, "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    response_class=StreamingResponse,
)
async def poses_by_events(request: Request, here: Here, camera: CameraFilter = None, events: Events = False) -> StreamingResponse:
    """`event: poses` with a result as /api/poses/latest has it; with `events=1` also `event: event`. A WebSocket at the same address."""
    await here.check_camera(camera)
    lines = _event_lines(here, camera, _kinds(events, False), _end(request.state.visitor))
    return StreamingResponse(lines, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _event_lines(here: Parts, camera: str | None, kinds: frozenset[Kind], ends_s: float | None) -> AsyncIterator[bytes]:
    async with _outlet(here.broadcast, "server-sent events", kinds, camera) as outlet:
        yield _SSE_COMMENT
        while not outlet.closed:
            item = await outlet.take()
            if item is not None:
                yield b"event: " + item.kind.encode() + b"\ndata: " + item.data + b"\n\n"
            elif not outlet.closed:
                await _check(here, camera, ends_s, outlet)
                yield _SSE_COMMENT


@router.get(
    "/api/stream/{camera}.mjpg",
    summary="A camera's pictures as motion JPEG",
    responses={200: {"content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}}}},
    response_class=StreamingResponse,
)
async def motion_jpeg(request: Request, here: Here, camera: CameraName, skeleton: bool = False) -> StreamingResponse:
    """As `picture_fps` and `picture_width` in `[server]` allow; `skeleton=1` draws the people."""
    await here.check_camera(camera)
    parts = _picture_parts(here, camera, skeleton, _end(request.state.visitor))
    return StreamingResponse(parts, media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")


async def _picture_parts(here: Parts, camera: str, drawn: bool, ends_s: float | None) -> AsyncIterator[bytes]:
    async with _outlet(here.broadcast, "motion JPEG", frozenset({"picture"}), camera, drawn) as outlet:
        yield f"--{_BOUNDARY}\r\n".encode()
        while not outlet.closed:
            item = await outlet.take()
            if item is None:
                await _check(here, camera, ends_s, outlet)
            else:
                yield _part(item)


def _part(item: Item) -> bytes:
    """With the boundary of the next behind it: a browser shows a picture once it has seen its end."""
    jpeg = memoryview(item.data)[4 + int.from_bytes(item.data[:4], "big") :]
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
    return b"".join((head, jpeg, f"\r\n--{_BOUNDARY}\r\n".encode()))


def _kinds(events: bool, pictures: bool) -> frozenset[Kind]:
    asked: dict[Kind, bool] = {"poses": True, "event": events, "picture": pictures}
    return frozenset(kind for kind, wanted in asked.items() if wanted)


@asynccontextmanager
async def _outlet(
    broadcast: Broadcast, name: str, kinds: frozenset[Kind], camera: str | None, drawn: bool = False
) -> AsyncIterator[Outlet]:
    outlet = broadcast.open(name, kinds, camera, drawn)
    try:
        yield outlet
    finally:
        broadcast.leave(outlet)


async def _check(here: Parts, camera: str | None, ends_s: float | None, outlet: Outlet) -> None:
    """Whether the camera is still there and the login still holds; else the stream ends."""
    try:
        await here.check_camera(camera)
    except Refusal:
        outlet.close()
    if _over(ends_s):
        outlet.close()


def _end(visitor: Visitor) -> float | None:
    """When the stream of somebody with a login ends, by the event loop's clock; its page comes again with a newer one."""
    return None if visitor.left_s is None else asyncio.get_running_loop().time() + visitor.left_s


def _over(ends_s: float | None) -> bool:
    return ends_s is not None and asyncio.get_running_loop().time() >= ends_s
