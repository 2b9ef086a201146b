"""`SteadyCount`, a number that follows another one only when that lasts, and `followed`, a value that does so slowly."""

from __future__ import annotations

from math import exp

_LONGEST_STEP_S = 2.0
"""What one frame says, it says of no more than so much time before it."""


class SteadyCount:
    """Rises when the count was higher for `after_s`, falls when it was lower for `until_s`.

    A frame that says otherwise takes back the part of the way that its time is of the other delay, so that neither a missed nor a phantom
    frame begins anew. It rises to the least count seen on the way up and falls to the highest on the way down.
    """

    def __init__(self, after_s: float, until_s: float) -> None:
        self._after_s, self._until_s = after_s, until_s
        self.reset()

    def reset(self) -> None:
        """To zero, at once."""
        self.count = 0
        self._last_s: float | None = None
        self._up, self._down, self._least, self._most = 0.0, 0.0, 0, 0

    def update(self, time_s: float, count: int | None) -> int:
        """The steady count. `time_s` does not go back; None: nobody knows, and time stands still."""
        passed = 0.0 if self._last_s is None else min(max(time_s - self._last_s, 0.0), _LONGEST_STEP_S)
        self._last_s = time_s
        if count is None:
            return self.count
        rise, fall = _share(passed, self._after_s), _share(passed, self._until_s)
        if count > self.count:
            self._least = count if self._up == 0 else min(self._least, count)
            self._up, self._down = max(self._up + rise, 1e-9), max(self._down - rise, 0.0)
        elif count < self.count:
            self._most = count if self._down == 0 else max(self._most, count)
            self._up, self._down = max(self._up - fall, 0.0), max(self._down + fall, 1e-9)
        else:
            self._up, self._down = max(self._up - fall, 0.0), max(self._down - rise, 0.0)
        self._settle()
        return self.count

    def _settle(self) -> None:
        reached = 1 - 1e-6
        if self._up >= reached or self._down >= reached:
            self.count = self._least if self._up >= reached else self._most
            self._up = self._down = 0.0


def _share(passed: float, whole_s: float) -> float:
    return passed / whole_s if whole_s > 0 else 1.0


def followed(before: float, now: float, passed_s: float, within_s: float) -> float:
    """A value that follows another one with the time constant `within_s`."""
    return before + (now - before) * (1 - exp(-max(passed_s, 0.0) / within_s))
