"""`EventDetector`: watches the results of all cameras and publishes what happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Protocol

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.watch import CameraWatch, WatchedCamera
from edgepose.runtime.daemon.hub import Hub

logger = logging.getLogger(__name__)
_DEPTH = 256
_SILENT_S = 10.0
"""A camera that gives no result for so long, or three times its longest interval, sees nobody any more."""
_LOOK_S = 0.5
_SAME = ("zones", "events", "track", "smooth", "source", "password_file", "password_env", "enabled", "max_fps")
"""A camera that is opened anew shows other people, and counts them from 1 again."""


class OpenedCamera(WatchedCamera, Protocol):
    """And how it is opened."""

    @property
    def source(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...
    @property
    def password_env(self) -> str | None: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def max_fps(self) -> float | None: ...


@dataclass(slots=True)
class _Watched:
    settings: OpenedCamera
    watch: CameraWatch
    heard_s: float
    at_s: float = 0.0
    silent: bool = True


class EventDetector:
    """A thread of its own between `start` and `stop`; all methods may be called from any thread."""

    def __init__(
        self,
        cameras: Sequence[OpenedCamera],
        skeleton: Skeleton,
        results: Hub[CameraResult],
        events: Hub[Event],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError for events that a camera or the skeleton cannot have."""
        self._skeleton, self._results, self._events, self._clock = skeleton, results, events, clock
        self._lock = Lock()
        self._watched = self._watches(cameras)
        self._subscription = results.subscribe("events", _DEPTH)
        self._thread = Thread(target=self._run, name="edgepose events", daemon=True)
        self._published, self._errors, self._last_error = 0, 0, ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends what lasts, so that nobody waits for an event that cannot come."""
        self._subscription.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._lock:
            for watched in self._watched.values():
                self._publish(watched.watch.close(watched.at_s, "stopped"))

    def reconfigure(self, cameras: Sequence[OpenedCamera]) -> None:
        """Cameras that are opened and tracked as before, with the same zones and events, go on undisturbed; what lasts in the others ends.
        Raises ConfigError before anything is changed."""
        with self._lock:
            fresh, before = self._watches(cameras), self._watched
            kept = {
                name: before[name] for name, watched in fresh.items() if name in before and _alike(watched.settings, before[name].settings)
            }
            self._watched = fresh | kept
            for name, watched in before.items():
                if name not in kept:
                    self._publish(watched.watch.close(watched.at_s, "reconfigured"))

    def status(self) -> dict[str, object]:
        return {
            "cameras": [name for name, watched in self._watched.items() if watched.settings.events],
            "published": self._published,
            "dropped": self._subscription.dropped,
            "errors": self._errors,
            "last_error": self._last_error,
        }

    def _watches(self, cameras: Sequence[OpenedCamera]) -> dict[str, _Watched]:
        return {camera.name: _Watched(camera, CameraWatch(camera, self._skeleton), self._clock()) for camera in cameras}

    def _run(self) -> None:
        while not self._subscription.closed:
            try:
                if (result := self._subscription.get(_LOOK_S)) is not None:
                    self._take(result)
                self._listen()
            except Exception as error:  # the top of a thread: one camera's frame is lost, the others go on
                logger.exception("events of a result failed")
                self._errors, self._last_error = self._errors + 1, f"{type(error).__name__}: {error}"

    def _take(self, result: CameraResult) -> None:
        frame = result.result.frame
        time_s = frame.captured_ns / 1e9 if frame.time_s is None else frame.time_s
        with self._lock:
            watched = self._watched.get(result.camera)
            if watched is not None:
                watched.heard_s, watched.at_s, watched.silent = self._clock(), result.at_s, False
                self._publish(watched.watch.update(time_s, result.at_s, result.result.poses, frame.size_wh))

    def _listen(self) -> None:
        """Ends what lasts in cameras that have fallen silent."""
        with self._lock:
            now = self._clock()
            for watched in self._watched.values():
                if not watched.silent and now - watched.heard_s > max(_SILENT_S, 3 / (watched.settings.max_fps or 1)):
                    watched.silent = True
                    self._publish(watched.watch.close(watched.at_s + (now - watched.heard_s), "no picture"))

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._published += 1
            logger.info("%s: %s %s%s", event.camera, event.kind, event.state, f" in {event.zone}" if event.zone else "")
            self._events.publish(event)


def _alike(one: OpenedCamera, other: OpenedCamera) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _SAME)
