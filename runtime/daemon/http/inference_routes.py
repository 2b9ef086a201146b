"""A picture in, people out; and whether that works at all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edgepose.engines.errors import EdgePoseError
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.http.gate import Refusal, wanted
from edgepose.runtime.daemon.http.models import ErrorModel, HealthModel, PosesModel, ReadyModel
from edgepose.runtime.daemon.http.parts import Here, Parts
from edgepose.runtime.daemon.http.request_body import body_of
from edgepose.runtime.daemon.http.uploaded_picture import PictureRefused, picture_from_upload

router = APIRouter(dependencies=[Depends(wanted("read"))])
open_router = APIRouter()
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": dict.fromkeys(("image/jpeg", "image/png", "image/webp"), _BINARY)}}
_HEALTH_AGE_S = 1.0


@router.post(
    "/api/infer",
    summary="The people in a picture",
    openapi_extra=_BODY,
    responses={200: {"model": PosesModel}, 413: {"model": ErrorModel}, 503: {"model": ErrorModel}},
    response_class=Response,
)
async def infer(request: Request, here: Here) -> Response:
    """The body is a JPEG, PNG or WebP file. Its size and number of pixels are limited (`max_picture_mb`, `max_megapixels` in `[server]`),
    and looked at before it is decoded. The engine looks at it in turn with the cameras."""
    if here.slots.locked():
        raise Refusal(503, f"{here.settings.max_inferences} pictures are being looked at: try again in a moment", (("retry-after", "1"),))
    async with here.slots:
        try:
            data = await body_of(request, int(here.settings.max_picture_mb * 1e6))
        except ClientDisconnect:
            return Response(status_code=400)
        work = asyncio.get_running_loop().run_in_executor(here.inferring, _people_in, here, data)
        result = await _answer(work)
    return Response(result.as_json(), media_type="application/json")


def _people_in(here: Parts, data: bytes) -> CameraResult:
    try:
        picture = picture_from_upload(data, here.settings.max_megapixels)
    except PictureRefused as refused:
        raise Refusal(413 if refused.too_large else 422, str(refused)) from refused
    return here.site.infer(picture, here.settings.request_timeout_s)


async def _answer(work: asyncio.Future[CameraResult]) -> CameraResult:
    try:
        return await work
    except EdgePoseError as error:
        raise Refusal(503, str(error), (("retry-after", "1"),)) from error


@dataclass(slots=True)
class Health:
    """The last answer, for a second, however many ask: this address needs no token and must not be a lever on the engine."""

    parts: Parts
    _asked_s: float = field(default=-_HEALTH_AGE_S, init=False)
    _answer: asyncio.Future[float] | None = field(default=None, init=False)

    async def infer_ms(self) -> float:
        """Raises EdgePoseError."""
        now = time.monotonic()
        if self._answer is None or (self._answer.done() and now - self._asked_s >= _HEALTH_AGE_S):
            self._asked_s = now
            self._answer = asyncio.get_running_loop().run_in_executor(self.parts.inferring, self._measured)
        return await asyncio.shield(self._answer)

    def _measured(self) -> float:
        began = time.perf_counter()
        self.parts.site.infer(np.full((96, 128, 3), 128, np.uint8), self.parts.settings.request_timeout_s)
        return (time.perf_counter() - began) * 1e3


@open_router.head("/healthz", include_in_schema=False)  # which monitors ask with
@open_router.get("/healthz", summary="Whether the engine works", response_model=HealthModel, responses={503: {"model": ErrorModel}})
async def healthz(request: Request) -> HealthModel:
    """Runs a picture through the engine; the answer holds for a second. Needs no token, and tells those without one no reason."""
    health: Health = request.app.state.health
    try:
        return HealthModel(status="ok", infer_ms=round(await health.infer_ms(), 2))
    except EdgePoseError as error:
        raise Refusal(503, str(error) if request.state.visitor.may("read") else "the engine does not work") from error


@open_router.head("/readyz", include_in_schema=False)
@open_router.get("/readyz", summary="Whether all cameras give results", response_model=ReadyModel, responses={503: {"model": ErrorModel}})
async def readyz(request: Request, here: Here) -> ReadyModel:
    """Needs no token, and tells those without one no reason."""
    if missing := await here.ask(here.site.ready):
        raise Refusal(503, missing if request.state.visitor.may("read") else "not ready")
    return ReadyModel(status="ready")
