"""`Pictures`: cameras' pictures as JPEG, made only for who watches and at most once for all of them."""

from __future__ import annotations

import asyncio
import logging
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.http.broadcast import Broadcast, Item
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.site import CameraState, Site
from edgepose.runtime.overlay import draw_poses_in_place

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Key:
    camera: str
    drawn: bool
    full_size: bool


class Pictures:
    """For the event loop; encoding is done by one thread of its own. `encoded` and `errors` count."""

    def __init__(self, site: Site, settings: ServerSettings, broadcast: Broadcast) -> None:
        self._site, self._settings, self._broadcast = site, settings, broadcast
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgepose http pictures")
        self._last: dict[_Key, tuple[int, bytes]] = {}
        self._making: dict[_Key, tuple[int, asyncio.Task[bytes]]] = {}
        self._waiting: dict[_Key, CameraResult] = {}
        self._due_s: dict[_Key, float] = {}
        self._streams: set[asyncio.Task[None]] = set()
        self.encoded, self.errors = 0, 0
        broadcast.seen.append(self._seen)

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    async def jpeg(self, result: CameraResult, drawn: bool, full_size: bool = True) -> bytes:
        """Of one result; who asks for what is being made waits for that."""
        key, frame = _Key(result.camera, drawn, full_size), result.result.frame.captured_ns
        if key in self._last and self._last[key][0] == frame:
            return self._last[key][1]
        if key not in self._making or self._making[key][0] != frame:
            self._making[key] = frame, asyncio.create_task(self._make(key, result))
        return await asyncio.shield(self._making[key][1])

    def with_header(self, result: CameraResult, jpeg: bytes) -> bytes:
        """Four bytes, big-endian, with the length of a JSON object; that object: camera, index, at and size as in the result's JSON; then
        the JPEG."""
        header = {"camera": result.camera, "index": result.result.frame.index, "at": round(result.at_s, 4), "size": result.size_wh}
        said = orjson.dumps(header)
        return struct.pack(">I", len(said)) + said + jpeg

    async def _make(self, key: _Key, result: CameraResult) -> bytes:
        loop, frame = asyncio.get_running_loop(), result.result.frame.captured_ns
        try:
            if key not in self._last:
                self._keep_only(await loop.run_in_executor(self._worker, self._site.cameras))
            jpeg = await loop.run_in_executor(self._worker, _encoded, result, self._site.skeleton, key, self._settings)
        finally:
            if key in self._making and self._making[key][0] == frame:
                del self._making[key]
        self.encoded += 1
        self._last[key] = frame, jpeg
        return jpeg

    def _keep_only(self, cameras: tuple[CameraState, ...]) -> None:
        """Forgets the others, which are gone from the site. Asked for where a camera is new: only then there is more to keep."""
        names = {camera.name for camera in cameras}
        self._last = {key: made for key, made in self._last.items() if key.camera in names}
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if key.camera in names}

    def _seen(self, result: CameraResult) -> None:
        """A result came: its picture is due, or waits in the place of the one before."""
        wanted = {
            outlet.drawn for outlet in self._broadcast.outlets if "picture" in outlet.kinds and outlet.camera in (None, result.camera)
        }
        now = asyncio.get_running_loop().time()
        for drawn in wanted:
            key = _Key(result.camera, drawn, full_size=False)
            if key in self._waiting:
                self._waiting[key] = result
            elif now >= self._due_s.get(key, 0.0):
                period = 1 / self._settings.picture_fps
                self._due_s[key] = max(self._due_s.get(key, 0.0) + period, now - period)
                self._waiting[key] = result
                task = asyncio.create_task(self._send(key))
                self._streams.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._streams.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.errors += 1
            logger.error("a picture could not be sent", exc_info=error)

    async def _send(self, key: _Key) -> None:
        """The newest that waits, once what is being made is out."""
        if key in self._making:
            await asyncio.wait([self._making[key][1]])
        result = self._waiting.pop(key)
        jpeg = await self.jpeg(result, key.drawn, full_size=False)
        self._broadcast.give(Item("picture", key.camera, self.with_header(result, jpeg), key.drawn))


def _encoded(result: CameraResult, skeleton: Skeleton, key: _Key, settings: ServerSettings) -> bytes:
    picture, poses = result.result.frame.picture, result.result.poses
    scale = 1.0 if key.full_size else min(1.0, settings.picture_width / picture.shape[1])
    if scale < 1:
        size_wh = settings.picture_width, max(1, round(picture.shape[0] * scale))
        picture = np.ascontiguousarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)
        poses = poses.moved(poses.keypoints[..., :2].astype(np.float64) * (size_wh[0] / result.size_wh[0], size_wh[1] / result.size_wh[1]))
    if key.drawn and poses.keypoints.shape[1] == len(skeleton.keypoints):  # another network may just have been exchanged for this one
        picture = picture.copy() if scale == 1 else picture
        draw_poses_in_place(picture, poses, skeleton)
    return _jpeg(picture, settings.picture_quality)


def _jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    found: Any = data.tobytes()
    return bytes(found)
