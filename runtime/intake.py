"""`Intake`: where the frames of several cameras wait for one engine, and what happens when it is slower than they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from threading import Condition

from edgepose.runtime.sources import Frame


class Policy(Enum):
    """EVERY: nothing is lost, sources wait; for files. LATEST: the newest frame wins, what it replaces is counted; for cameras."""

    EVERY = "every"
    LATEST = "latest"


@dataclass(slots=True)
class Count:
    """Of one source. `captured` = `dropped` + frames taken + frames still waiting."""

    captured: int = 0
    dropped: int = 0


class Intake:
    """A box for each of `sources` sources: `depth` frames under EVERY, one under LATEST. Boxes are emptied in turn."""

    def __init__(self, sources: int, policy: Policy, depth: int = 4) -> None:
        self._policy, self._depth = policy, depth if policy is Policy.EVERY else 1
        self._boxes = [deque[Frame]() for _ in range(sources)]
        self._open = set(range(sources))
        self._turn = 0
        self._changed = Condition()
        self.counts = tuple(Count() for _ in range(sources))

    def put(self, source: int, frame: Frame) -> bool:
        """False where the intake was stopped and the source may end."""
        box, count = self._boxes[source], self.counts[source]
        with self._changed:
            while self._policy is Policy.EVERY and len(box) >= self._depth and source in self._open:
                self._changed.wait()
            if source not in self._open:
                return False
            count.captured += 1
            if len(box) >= self._depth:
                box.popleft()
                count.dropped += 1
            box.append(frame)
            self._changed.notify_all()
            return True

    def take(self, most: int) -> list[tuple[int, Frame]]:
        """(source, frame) of up to `most`, sources in turn; nothing when all have ended.

        Waits for the first; under EVERY until there are so many or all sources have ended, under LATEST for no other.
        """
        taken: list[tuple[int, Frame]] = []
        with self._changed:
            while len(taken) < most:
                source = self._next()
                if source is not None:
                    taken.append((source, self._boxes[source].popleft()))
                    self._changed.notify_all()
                elif not self._open or (taken and self._policy is Policy.LATEST):
                    break
                else:
                    self._changed.wait()
        return taken

    def end(self, *sources: int) -> None:
        """These sources, or all, have no more frames; those that wait can still be taken."""
        with self._changed:
            self._open -= set(sources) if sources else self._open
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends all sources at once; what waits is dropped and counted."""
        with self._changed:
            self._open.clear()
            for box, count in zip(self._boxes, self.counts, strict=True):
                count.dropped += len(box)
                box.clear()
            self._changed.notify_all()

    def _next(self) -> int | None:
        """The first source from whose turn it is that has a frame."""
        for step in range(len(self._boxes)):
            source = (self._turn + step) % len(self._boxes)
            if self._boxes[source]:
                self._turn = source + 1
                return source
        return None
