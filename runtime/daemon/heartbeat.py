"""`Heartbeat`: whether frames really flow, which is what a watchdog is to be told."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from edgepose.runtime.daemon.station import Station

_STILL_S, _TROUBLE_S = 10.0, 120.0


class Heartbeat:
    """Frames that come in and no results that come out for 10 s: something hangs that no error told of. An engine that failed and is
    opened again has two minutes: some devices want another process. Cameras that give nothing are no reason to start anew."""

    def __init__(self, station: Station, clock: Callable[[], float] = monotonic) -> None:
        self._station, self._clock = station, clock
        self._captured = self._delivered = 0
        self._waiting_since: float | None = None

    def beats(self) -> bool:
        """To be asked now and then, more often than every 10 s."""
        captured, delivered = sum(camera.count.captured for camera in self._station.cameras), self._station.delivered
        moved, came = delivered != self._delivered, captured != self._captured
        self._captured, self._delivered = captured, delivered
        if moved or not came:
            self._waiting_since = None
            return True
        if self._waiting_since is None:
            self._waiting_since = self._clock()
        return self._clock() - self._waiting_since < (_TROUBLE_S if self._station.trouble else _STILL_S)
