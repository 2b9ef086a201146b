"""`WorkingClock`: time spent at work, in which pauses do not count."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

_PAUSE_S = 30.0
_PAUSE_STEPS = 10


class WorkingClock:
    """Adds up the time between ticks, which `now` tells in seconds.

    A tick of more than 30 s that is also more than ten usual ones (the process was stopped, the machine slept) counts as one of them; the
    first counts 30 s at most.
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
        usual = median(self._usual) if self._usual else _PAUSE_S / _PAUSE_STEPS
        if taken > max(_PAUSE_S, _PAUSE_STEPS * usual):
            taken = usual if self._usual else _PAUSE_S
        self._usual.append(taken)
        self.worked_s += taken
        return taken
