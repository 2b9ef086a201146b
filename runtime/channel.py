"""`Channel`: a bounded queue between two threads that can end, and that can be stopped while somebody waits for it.

(Python's own gets `shutdown` in 3.13.)
"""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """At most `depth` things are in it; who has more waits."""

    def __init__(self, depth: int) -> None:
        self._depth, self._waiting, self._ended = depth, deque[T](), False
        self._changed = Condition()

    def put(self, thing: T) -> bool:
        """False where the channel has ended, and the thing was not taken."""
        with self._changed:
            while len(self._waiting) >= self._depth and not self._ended:
                self._changed.wait()
            if self._ended:
                return False
            self._waiting.append(thing)
            self._changed.notify_all()
            return True

    def get(self) -> T | None:
        """The oldest; None when the channel has ended and is empty."""
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            if not self._waiting:
                return None
            thing = self._waiting.popleft()
            self._changed.notify_all()
            return thing

    def end(self) -> None:
        """Nothing more comes; what is in the channel can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> list[T]:
        """Ends at once; gives what nobody took."""
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
        self.end()
        return left
