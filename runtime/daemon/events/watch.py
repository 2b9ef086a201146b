"""`CameraWatch`: everything one camera watches for. No threads, no clocks but the frames'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.body import Anatomy, Body
from edgepose.runtime.daemon.events.fall import Fall
from edgepose.runtime.daemon.events.hand_raised import HandRaised
from edgepose.runtime.daemon.events.presence import Presence
from edgepose.runtime.daemon.events.settings import EventSettings, FallSettings, PresenceSettings, ZoneSettings
from edgepose.runtime.daemon.events.zones import Zones
from edgepose.runtime.poses import Poses

_LONGEST_PAUSE_S = 10.0


class WatchedCamera(Protocol):
    """What of a camera's settings matters here."""

    @property
    def name(self) -> str: ...
    @property
    def track(self) -> bool: ...
    @property
    def smooth(self) -> bool:
        """Which tracks, too."""

    @property
    def zones(self) -> tuple[ZoneSettings, ...]: ...
    @property
    def events(self) -> tuple[EventSettings, ...]: ...


class Detector(Protocol):
    def update(self, time_s: float, at_s: float, bodies: Sequence[Body]) -> list[Event]:
        """What starts, changes or ends with this frame; `time_s` never goes back, `at_s` is what events tell."""

    def close(self, at_s: float, reason: str) -> list[Event]:
        """Ends what lasts and forgets everybody."""


class FrameClock:
    """Time that goes on with the frames' and never back: a clock that jumps back stands still for that frame (a video that begins anew,
    say), one that jumps ahead goes on by 10 s."""

    def __init__(self) -> None:
        self._now, self._last_s = 0.0, 0.0
        self._begun = False

    def at(self, time_s: float) -> float:
        if self._begun:
            self._now += min(max(time_s - self._last_s, 0.0), _LONGEST_PAUSE_S)
        self._begun, self._last_s = True, time_s
        return self._now


class CameraWatch:
    """Raises ConfigError for events that this camera or skeleton cannot have. Not for two threads at once."""

    def __init__(self, camera: WatchedCamera, skeleton: Skeleton) -> None:
        zones, self._anatomy, self._clock = Zones(camera.name, camera.zones), Anatomy(skeleton), FrameClock()
        self._detectors = [_detector(camera, settings, zones, self._anatomy) for settings in camera.events]

    def update(self, time_s: float, at_s: float, poses: Poses, size_wh: tuple[int, int]) -> list[Event]:
        """One frame's people, in its pixels, tracked where falls and hands are asked for. `time_s` is the frame's, `at_s` the Unix time
        of the events."""
        bodies, now = self._anatomy.bodies(poses, size_wh), self._clock.at(time_s)
        return [event for detector in self._detectors for event in detector.update(now, at_s, bodies)]

    def close(self, at_s: float, reason: str) -> list[Event]:
        """Ends what lasts; `reason` goes into the events' detail."""
        return [event for detector in self._detectors for event in detector.close(at_s, reason)]


def _detector(camera: WatchedCamera, settings: EventSettings, zones: Zones, anatomy: Anatomy) -> Detector:
    if isinstance(settings, PresenceSettings):
        return Presence(camera.name, settings, zones)
    if not (camera.track or camera.smooth):
        raise ConfigError(f"camera {camera.name!r}: event {settings.kind!r} goes by who is who: set track = true")
    if isinstance(settings, FallSettings):
        return Fall(camera.name, settings, zones, anatomy)
    return HandRaised(camera.name, settings, zones, anatomy)
