"""`Heartbeat`: whether frames really flow, which is what a watchdog is to be told."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from edgepose.runtime.daemon.station import Station

_STILL_S, _TROUBLE_S = 10.0, 120.0


class Heartbeat:
    """A frame that came in and no result that comes out for 10 s: something hangs that no error told of. An engine that failed and is
    opened again has two minutes: some devices want another process. Cameras that give nothing are no reason to start anew."""

    def __init__(self, station: Station, clock: Callable[[], float] = monotonic) -> None:
        self._station, self._clock = station, clock
        self._captured = self._delivered = self._failures = 0
        self._waiting_since: float | None = None

    def beats(self) -> bool:
        """To be asked now and then, more often than every 10 s."""
        station, before = self._station, self._captured
        self._captured = sum(camera.count.captured for camera in station.cameras)
        if station.delivered != self._delivered or self._captured < before:  # the latter: a camera went away, its frames with it
            self._delivered, self._failures, self._waiting_since = station.delivered, station.failures, None
            return True
        if self._waiting_since is None and self._captured > before:
            self._waiting_since = self._clock()
        failed = station.trouble or station.failures != self._failures  # its frames are lost, and the next may be long in coming
        return self._waiting_since is None or self._clock() - self._waiting_since < (_TROUBLE_S if failed else _STILL_S)
