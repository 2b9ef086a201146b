"""`WorkingClock`: time spent at work, in which pauses do not count."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

_PAUSE_S = 30.0


class WorkingClock:
    """Adds up the time between ticks, which `now` tells in seconds.

    A tick of more than 30 s (the process was stopped, the machine slept) counts as the usual one.
    """

    def __init__(self, worked_s: float = 0.0, now: Callable[[], float] = time.perf_counter) -> None:
        self.worked_s = worked_s
        self._now, self._last = now, now()
        self._usual: deque[float] = deque(maxlen=50)

    def restart(self) -> None:
        """What was done since the last tick does not count."""
        self._last = self._now()

    def tick(self) -> float:
        """Seconds that this step counts."""
        now = self._now()
        taken, self._last = now - self._last, now
        if taken > _PAUSE_S:
            taken = median(self._usual) if self._usual else 0.0
        self._usual.append(taken)
        self.worked_s += taken
        return taken
