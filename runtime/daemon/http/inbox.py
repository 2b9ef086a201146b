"""`Inbox`: from a thread to the event loop."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Holds the newest `depth`; the others are counted in `dropped`. May be used from any thread."""

    def __init__(self, depth: int) -> None:
        self._things, self._lock, self.dropped = deque[T](maxlen=depth), Lock(), 0

    def put(self, thing: T) -> None:
        with self._lock:
            self.dropped += len(self._things) == self._things.maxlen
            self._things.append(thing)

    def take(self) -> T | None:
        """The oldest; None where there is none."""
        with self._lock:
            return self._things.popleft() if self._things else None
