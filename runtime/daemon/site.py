"""`Site`: what the daemon's faces (HTTP, MQTT) see of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.engine import Execution
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hub import Hub

CameraCondition = Literal["connecting", "live", "lost", "disabled"]


@dataclass(frozen=True, slots=True)
class CameraState:
    """`captured` = `dropped` + results + what is still inside. `fps` is of results over the last seconds; `last_at_s` the Unix time of the
    last one's capture. `reason` says why it is not live."""

    name: str
    condition: CameraCondition
    reason: str
    source: str
    fps: float
    captured: int
    dropped: int
    results: int
    reconnections: int
    garbage: int
    frozen: int
    size_wh: tuple[int, int] | None
    last_at_s: float | None
    age_ms: float | None


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a new configuration changed, a line each. `applied` is False where the old one was put back, and `reason` says why."""

    applied: bool
    reason: str
    changes: tuple[str, ...]


class Site(Protocol):
    """All methods may be called from any thread."""

    results: Hub[CameraResult]
    events: Hub[Event]
    """It remembers the newest."""
    began_s: float
    """By the monotonic clock."""

    @property
    def skeleton(self) -> Skeleton: ...

    @property
    def execution(self) -> Execution:
        """What runs the network."""

    def cameras(self) -> tuple[CameraState, ...]: ...

    def latest(self, camera: str) -> CameraResult | None:
        """None before the first. Raises KeyError for a camera that is not there."""

    def infer(self, picture: NDArray[np.uint8], timeout_s: float) -> CameraResult:
        """A (H, W, 3) BGR picture through the engine, in turn with the cameras; `camera` is empty.

        Raises EdgePoseError where the engine fails or does not answer in time."""

    def ready(self) -> str:
        """Nothing where the engine runs and every enabled camera gave a result lately, else what is missing."""

    def configuration(self) -> dict[str, object]:
        """The one that holds, without secrets."""

    def reload(self, text: str | None = None) -> ReloadReport:
        """Applies the configuration in `text` (TOML), which is written to the daemon's file once it holds, or what is in that file now.
        Puts the old one back where the new one does not become healthy. Raises ConfigError for one that is not valid, before anything
        is touched."""
