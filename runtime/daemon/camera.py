"""`Camera`: one camera of the daemon, what it gave and how it is."""

from __future__ import annotations

import time
from collections import deque
from time import perf_counter, perf_counter_ns

from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.camera_settings import CameraSettings
from edgepose.runtime.daemon.patient_source import PatientSource
from edgepose.runtime.daemon.site import CameraCondition, CameraState
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.follower import Follower
from edgepose.runtime.inferences import Result
from edgepose.runtime.intake import Count
from edgepose.runtime.sources import open_source

_SILENT_S = 3.0
"""Without a frame for so long a camera counts as lost."""
_WINDOW_S = 5.0
_OPENING = ("name", "source", "password_file", "password_env", "enabled", "max_fps")


class Camera:
    """Written by the thread that lands results, read by any."""

    def __init__(self, settings: CameraSettings, keypoints: int) -> None:
        self.settings = settings
        self.source = PatientSource(settings.name, lambda: open_source(settings.address()), settings.max_fps)
        self.number: int | None = None
        self.count = Count()
        self.latest: CameraResult | None = None
        self.results = 0
        self._recent = deque[float]()
        self._follower: Follower | None = None
        self.follow_anew(keypoints)

    def opens_as(self, settings: CameraSettings) -> bool:
        """Whether a camera of these settings is opened as this one is."""
        return all(getattr(settings, key) == getattr(self.settings, key) for key in _OPENING)

    def adjust(self, settings: CameraSettings, keypoints: int) -> None:
        """Takes over what does not change how it is opened."""
        followed = ("track", "smooth")
        anew = any(getattr(settings, key) != getattr(self.settings, key) for key in followed)
        self.settings = settings
        if anew:
            self.follow_anew(keypoints)

    def follow_anew(self, keypoints: int) -> None:
        """Begins anew to tell people apart, with skeletons of so many keypoints."""
        wanted = self.settings.track or self.settings.smooth
        self._follower = Follower(keypoints, self.settings.smooth) if wanted else None

    def take(self, result: Result) -> CameraResult:
        """What the engine found in a frame of this camera."""
        follower = self._follower  # a reload may take it away meanwhile
        followed = follower.follow(result) if follower else result
        at_s = time.time() - (perf_counter_ns() - result.frame.captured_ns) / 1e9
        now = perf_counter()
        self._recent.append(now)
        while self._recent[0] < now - self._window_s:
            self._recent.popleft()
        self.latest = CameraResult(self.settings.name, followed, at_s)
        self.results += 1
        return self.latest

    @property
    def silent_s(self) -> float | None:
        """Seconds since the last frame that gave a result was captured; None before the first."""
        return None if self.latest is None else (perf_counter_ns() - self.latest.result.frame.captured_ns) / 1e9

    def state(self) -> CameraState:
        latest, health = self.latest, self.source.health
        condition, reason = self._condition()
        return CameraState(
            name=self.settings.name,
            condition=condition,
            reason=without_password(reason),  # the source may be mistyped so that its error says it whole
            source=without_password(self.settings.source),
            fps=self._fps(),
            captured=self.count.captured,
            dropped=self.count.dropped,
            results=self.results,
            reconnections=health.reconnections,
            garbage=health.garbage,
            frozen=health.frozen,
            size_wh=latest.size_wh if latest else None,
            last_at_s=latest.at_s if latest else None,
            age_ms=latest.age_ms if latest else None,
        )

    def _condition(self) -> tuple[CameraCondition, str]:
        if not self.settings.enabled:
            return "disabled", "switched off in the configuration"
        silent_s, said = self.silent_s, self.source.trouble or self.source.health.lost
        if silent_s is None:
            return "connecting", self.source.trouble
        if silent_s > self._patience_s:
            return "lost", said or f"no picture for {silent_s:.0f} s"
        return "live", ""

    @property
    def _patience_s(self) -> float:
        """As long as three frames take of a camera that is to give few."""
        return max(_SILENT_S, 3 / (self.settings.max_fps or 1))

    @property
    def _window_s(self) -> float:
        return max(_WINDOW_S, self._patience_s)

    def _fps(self) -> float:
        """Of results, over the last 5 s, or the last three where they take longer."""
        now = perf_counter()
        recent = [moment for moment in tuple(self._recent) if moment > now - self._window_s]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and now - recent[-1] < self._patience_s else 0.0
