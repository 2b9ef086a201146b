"""`Inquiries`: pictures from outside through the engine of the cameras."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import count
from threading import Lock, Semaphore
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import InferenceFailed
from edgepose.runtime.inferences import Result
from edgepose.runtime.intake import Intake, Policy
from edgepose.runtime.sources import Frame

_AT_ONCE = 4


class Inquiries:
    """A source of its own in the intake, so that pictures come in turn with the cameras; at most four at a time, others wait. A picture
    whose asker went away still waits for the engine, so that there may be no room for another."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self.number = intake, intake.add(Policy.EVERY)
        self._tickets, self._room, self._lock = count(), Semaphore(_AT_ONCE), Lock()
        self._waiting: dict[int, Future[Result]] = {}

    def ask(self, picture: NDArray[np.uint8], timeout_s: float) -> Result:
        """Raises InferenceFailed where no answer comes in time or the engine fails."""
        until = perf_counter() + timeout_s
        if not self._room.acquire(timeout=timeout_s):
            raise InferenceFailed(f"no answer within {timeout_s:g} s: {_AT_ONCE} pictures wait already: try again later")
        ticket, answer = next(self._tickets), Future[Result]()
        try:
            with self._lock:
                self._waiting[ticket] = answer
            if not self._intake.put(self.number, Frame(picture, f"inquiry_{ticket:012d}", ticket, None), _left(until)):
                raise InferenceFailed(f"no picture was taken within {timeout_s:g} s: the engine does not answer, or the daemon is stopping")
            return answer.result(_left(until))
        except FutureTimeout as error:
            raise InferenceFailed(f"the engine gave no answer within {timeout_s:g} s: see /api/status") from error
        finally:
            with self._lock:
                self._waiting.pop(ticket, None)
            self._room.release()

    def answer(self, result: Result) -> None:
        with self._lock:
            asked = self._waiting.get(result.frame.index)
            if asked is not None and not asked.done():
                asked.set_result(result)

    def fail(self, reason: str) -> None:
        """Tells everybody who waits; a picture that was not yet taken is answered all the same, to nobody."""
        with self._lock:
            for asked in self._waiting.values():
                if not asked.done():
                    asked.set_exception(InferenceFailed(f"no answer: {reason}"))


def _left(until: float) -> float:
    return max(0.0, until - perf_counter())
