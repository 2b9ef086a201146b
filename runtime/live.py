"""`LiveSource`: a camera or stream that comes back when it was lost.

A stream that ends, breaks off, says nothing for too long or shows a picture that stands still is opened anew, with growing pauses; what
happened is counted in `health`. Data that cannot be decoded is skipped, a picture of another size is taken as it is, a clock that jumps is
set anew.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import SourceError, SourceLost
from edgepose.runtime.sources import Frame

logger = logging.getLogger(__name__)
_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
_DRIFT_S = 1.0
_FROZEN_S = 10.0
_SAMPLE = 16
"""Every so many rows and columns decide whether a picture is the same as the last."""


@dataclass(slots=True)
class Health:
    """What a live source went through: attempts to connect again, packets that could not be decoded, clocks that jumped, and how often the
    picture stood still for 10 s. `lost` says why the last connection was."""

    reconnections: int = 0
    garbage: int = 0
    jumps: int = 0
    frozen: int = 0
    lost: str = ""


class Link(Protocol):
    """One connection to a camera, made when its pictures are asked for."""

    @property
    def name(self) -> str:
        """For messages, without a password."""

    def pictures(self, health: Health, /) -> Iterator[tuple[NDArray[np.uint8], float | None]]:
        """((H, W, 3) BGR, the stream's time) until it ends. Counts garbage in `health`. Raises SourceError where it cannot be opened,
        SourceLost where it breaks off or says nothing for too long."""


@dataclass(frozen=True, slots=True)
class LiveSource:
    """With `seconds` it is one connection, for so long at most."""

    link: Link
    seconds: float | None = None
    health: Health = field(default_factory=Health, compare=False)
    _stopped: Event = field(default_factory=Event, compare=False, repr=False)

    @property
    def count(self) -> None:
        return None

    @property
    def is_video(self) -> bool:
        return True

    @property
    def is_live(self) -> bool:
        return True

    @property
    def fps(self) -> None:
        return None

    def frames(self) -> Iterator[Frame]:
        """`time_s` counts from the first frame, by the stream's clock where it keeps time. Raises SourceError where the first connection
        fails; SourceLost where one for some `seconds` breaks off."""
        clock, stillness, index, pause = StreamClock(self.health), Stillness(self.health), 0, 0
        began: float | None = None
        self._stopped.clear()
        while True:
            try:
                for picture, time_s in self.link.pictures(self.health):
                    began = perf_counter() if began is None else began
                    arrived_s = perf_counter() - began
                    if stillness.watch(picture, arrived_s):
                        raise SourceLost(f"{self.link.name}: the picture has not changed for {_FROZEN_S:g} s")
                    yield Frame(picture, f"live_{index:012d}", index, clock.at(time_s, arrived_s))
                    index, pause = index + 1, 0
                    if self.seconds is not None and arrived_s >= self.seconds:
                        return
                if began is None:
                    raise SourceError(f"{self.link.name}: no picture comes from it")
                if self.seconds is not None:
                    return
                self.health.lost = "the stream ended"
            except SourceError as error:
                if began is None or self.seconds is not None:
                    raise
                self.health.lost = str(error)
            self.health.reconnections += 1
            clock.restart()
            logger.warning("%s: lost (%s): connecting again", self.link.name, self.health.lost)
            if self._stopped.wait(_PAUSES_S[pause] * random.uniform(0.75, 1.25)):  # so that many cameras do not come back at once
                return
            pause = min(pause + 1, len(_PAUSES_S) - 1)

    def stop(self) -> None:
        """Has `frames` end instead of connecting again, until it is asked for anew. From any thread."""
        self._stopped.set()


class StreamClock:
    """A stream's time from the first frame on, never going back; set anew by the time of arrival where it jumps."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._ahead: float | None = None
        self._last = -1.0

    def restart(self) -> None:
        """A new connection has its own clock."""
        self._ahead = None

    def at(self, stream_s: float | None, arrived_s: float) -> float:
        """Seconds of a frame, by what the stream says, if it does, and when it arrived."""
        now = arrived_s if stream_s is None else self._kept(stream_s, arrived_s)
        self._last = max(now, self._last + 1e-6)
        return self._last

    def _kept(self, stream_s: float, arrived_s: float) -> float:
        if self._ahead is not None:
            now = stream_s - self._ahead
            if abs(now - arrived_s) <= _DRIFT_S:
                return now
            self._health.jumps += 1
        self._ahead = stream_s - arrived_s
        return arrived_s


class Stillness:
    """Notices a picture that does not change: a camera that hangs goes on sending."""

    def __init__(self, health: Health) -> None:
        self._health, self._changed_s = health, 0.0
        self._sample, self._moved = np.empty(0, np.uint8), False

    def watch(self, picture: NDArray[np.uint8], arrived_s: float) -> bool:
        """Whether it has now stood still for 10 s, the first time since it changed: another connection may help, but not twice."""
        sample = picture[::_SAMPLE, ::_SAMPLE].copy()
        if not np.array_equal(sample, self._sample):
            self._sample, self._changed_s, self._moved = sample, arrived_s, True
        elif arrived_s - self._changed_s > _FROZEN_S:
            self._health.frozen += 1
            self._changed_s = arrived_s
            moved, self._moved = self._moved, False
            return moved
        return False
