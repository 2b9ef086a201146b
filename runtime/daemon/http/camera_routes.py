"""Cameras, their newest people and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.http.gate import wanted
from edgepose.runtime.daemon.http.models import CameraModel, EventModel, LimbModel, PosesModel, SkeletonModel
from edgepose.runtime.daemon.http.parts import CameraFilter, CameraName, Here
from edgepose.runtime.overlay import Colour, palette

router = APIRouter(dependencies=[Depends(wanted("read"))])
_JSON = "application/json"


@router.get("/api/cameras", summary="All cameras", response_model=list[CameraModel])
async def cameras(here: Here) -> list[CameraModel]:
    """In the configuration's order, those that are switched off too."""
    return [CameraModel.model_validate(camera) for camera in await here.ask(here.site.cameras)]


@router.get("/api/poses/latest", summary="A camera's newest people", responses={200: {"model": PosesModel}}, response_class=Response)
async def latest_poses(here: Here, camera: Annotated[str, Query(max_length=64, examples=["entrance"])]) -> Response:
    """503 where it has given nothing yet."""
    return Response((await here.latest(camera)).as_json(), media_type=_JSON)


@router.get("/api/skeleton", summary="Keypoints and limbs", response_model=SkeletonModel)
async def skeleton(here: Here) -> SkeletonModel:
    """What the numbers of keypoints mean, and the colours in which the page draws them."""
    found = here.site.skeleton
    limbs, joints = palette(found)
    return SkeletonModel(
        name=found.name,
        keypoints=list(found.keypoints),
        colours=[_css(colour) for colour in joints],
        limbs=[LimbModel(start=limb.start, end=limb.end, colour=_css(colour)) for limb, colour in limbs],
    )


@router.get("/api/events", summary="The newest events", responses={200: {"model": list[EventModel]}}, response_class=Response)
async def events(here: Here, camera: CameraFilter = None, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Response:
    """Newest first, at most 200; those since the daemon began."""
    newest = (event for event in reversed(here.site.events.newest) if camera in (None, event.camera))
    return Response(b"[" + b",".join(islice(_told(newest), limit)) + b"]", media_type=_JSON)


def _told(events: Iterable[Event]) -> Iterator[bytes]:
    """Without those that JSON has no words for, as streams do."""
    for event in events:
        with suppress(TypeError, RecursionError):
            yield event.as_json()


@router.get(
    "/api/snapshot/{camera}.jpg",
    summary="A camera's newest picture",
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
    response_class=Response,
)
async def snapshot(here: Here, camera: CameraName, skeleton: bool = False) -> Response:
    """In full size; `skeleton=1` draws the people. The header X-Index says which frame it is."""
    result = await here.latest(camera)
    jpeg = await here.pictures.jpeg(result, drawn=skeleton)
    return Response(jpeg, media_type="image/jpeg", headers={"x-index": str(result.result.frame.index), "x-at": f"{result.at_s:.4f}"})


def _css(colour: Colour) -> str:
    blue, green, red = colour
    return f"#{red:02x}{green:02x}{blue:02x}"
