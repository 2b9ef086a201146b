"""`Parts`: what the routes of one server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Path, Query
from starlette.requests import HTTPConnection

from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.http.broadcast import Broadcast
from edgepose.runtime.daemon.http.connections import Connections
from edgepose.runtime.daemon.http.gate import Gate, Refusal
from edgepose.runtime.daemon.http.metrics import Metrics, Services
from edgepose.runtime.daemon.http.pictures import Pictures
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.site import Site

T = TypeVar("T")


class LogTail(Protocol):
    """The last lines that were logged."""

    def lines(self, count: int) -> list[str]:
        """At most `count`, oldest first."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """`asking` runs what asks the site, `inferring` what waits for the engine: a slow one must not hold up the others."""

    site: Site
    settings: ServerSettings
    gate: Gate
    connections: Connections
    broadcast: Broadcast
    pictures: Pictures
    metrics: Metrics
    log_tail: LogTail
    services: Services
    asking: ThreadPoolExecutor
    inferring: ThreadPoolExecutor
    slots: asyncio.Semaphore

    async def ask(self, work: Callable[..., T], *arguments: Any) -> T:
        """Off the event loop: the site may wait for a lock."""
        return await asyncio.get_running_loop().run_in_executor(self.asking, work, *arguments)

    async def latest(self, camera: str) -> CameraResult:
        """Raises Refusal for a camera that is not there or has given nothing yet."""
        try:
            result = await self.ask(self.site.latest, camera)
        except KeyError as error:
            raise Refusal(404, f"no camera {camera!r}") from error
        if result is None:
            raise Refusal(503, f"camera {camera!r} has given no picture yet", (("retry-after", "1"),))
        return result

    async def check_camera(self, camera: str | None) -> None:
        """Raises Refusal for one that is not there."""
        if camera is None:
            return
        try:
            await self.ask(self.site.latest, camera)
        except KeyError as error:
            raise Refusal(404, f"no camera {camera!r}") from error

    def close(self) -> None:
        for executor in (self.asking, self.inferring):
            executor.shutdown(wait=False, cancel_futures=True)
        self.pictures.close()


async def parts_of(connection: HTTPConnection) -> Parts:
    """A coroutine, because FastAPI calls functions in a thread."""
    found: Parts = connection.app.state.parts
    return found


Here = Annotated[Parts, Depends(parts_of)]
CameraName = Annotated[str, Path(max_length=64, description="A camera's name", examples=["entrance"])]
CameraFilter = Annotated[str | None, Query(max_length=64, description="A camera's name; all of them without it", examples=["entrance"])]
