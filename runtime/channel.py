"""`Channel`: a bounded queue between two threads that can end while somebody waits for it.

(Python's own gets `shutdown` in 3.13.) Made of two `SimpleQueue`s, which wait without Python code: a frame passes three channels.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """At most `depth` things are in it; who has more waits."""

    def __init__(self, depth: int) -> None:
        self._things: SimpleQueue[T | None] = SimpleQueue()
        self._room: SimpleQueue[bool] = SimpleQueue()
        self._ended = False
        for _ in range(depth):
            self._room.put(True)

    def put(self, thing: T) -> bool:
        """False where the channel has ended, and the thing was not taken."""
        if not self._room.get() or self._ended:
            self._room.put(False)  # for whoever waits beside us
            return False
        self._things.put(thing)
        return True

    def get(self) -> T | None:
        """The oldest; None when the channel has ended and is empty."""
        thing = self._things.get()
        if thing is None:
            with suppress(Empty):
                thing = self._things.get_nowait()  # put while the channel ended
            self._things.put(None)
        if thing is not None:
            self._room.put(True)
        return thing

    def end(self) -> None:
        """Nothing more comes; what is in the channel can still be taken."""
        self._ended = True
        self._things.put(None)
        self._room.put(False)

    def stop(self) -> list[T]:
        """Ends at once; gives what nobody took. Where another thread may still put, after that thread has ended."""
        self._ended = True
        left = []
        try:
            while True:
                if (thing := self._things.get_nowait()) is not None:
                    left.append(thing)
        except Empty:
            self.end()
        return left
