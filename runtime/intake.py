"""`Intake`: where the frames of several cameras wait for one engine, and what happens when it is slower than they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
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


@dataclass(slots=True, eq=False)
class _Box:
    policy: Policy
    depth: int
    count: Count = field(default_factory=Count)
    waiting: deque[Frame] = field(default_factory=deque)
    is_open: bool = True

    @property
    def has_room(self) -> bool:
        return self.policy is Policy.LATEST or len(self.waiting) < self.depth


class Intake:
    """A box for each source: `depth` frames under EVERY, one under LATEST. Boxes are emptied in turn. Sources may come and go.

    One that is `standing` does not end when it has no sources. `policy` is that of sources that bring none of their own.
    """

    def __init__(self, policy: Policy = Policy.EVERY, depth: int = 4, standing: bool = False) -> None:
        self._policy, self._depth, self._standing = policy, depth, standing
        self._boxes: dict[int, _Box] = {}
        self._turns = deque[int]()
        self._added, self._stopped = 0, False
        self._changed = Condition()

    def add(self, policy: Policy | None = None) -> int:
        """The number of a new source, counted from 0 and never given twice."""
        policy = policy or self._policy
        with self._changed:
            number, self._added = self._added, self._added + 1
            self._boxes[number] = _Box(policy, self._depth if policy is Policy.EVERY else 1, is_open=not self._stopped)
            self._turns.append(number)
        return number

    def remove(self, source: int) -> None:
        """Ends a source and forgets it; what waits is dropped and counted."""
        with self._changed:
            self._shut(source)
            del self._boxes[source]
            self._turns.remove(source)
            self._changed.notify_all()

    def count(self, source: int) -> Count:
        """Goes on counting while the source is there."""
        return self._boxes[source].count

    def put(self, source: int, frame: Frame, patience_s: float | None = None) -> bool:
        """False where the source was removed or the intake stopped, and it may end; or no room came in time."""
        with self._changed:
            box = self._boxes.get(source)
            if box is None or not self._changed.wait_for(lambda: box.has_room or not box.is_open, patience_s) or not box.is_open:
                return False
            box.count.captured += 1
            if len(box.waiting) >= box.depth:
                box.waiting.popleft()
                box.count.dropped += 1
            box.waiting.append(frame)
            self._changed.notify_all()
            return True

    def take(self, most: int, gone: Gone | None = None) -> list[tuple[int, Frame]]:
        """(source, frame) of up to `most`, sources in turn; nothing when all have ended, or once the taker is `gone`.

        Waits for the first; under EVERY until there are so many or all sources have ended, under LATEST for no other.
        """
        taken: list[tuple[int, Frame]] = []
        with self._changed:
            while len(taken) < most and not gone:
                source = self._next()
                if source is not None:
                    taken.append((source, self._boxes[source].waiting.popleft()))
                    self._changed.notify_all()
                elif self._ended() or (taken and self._policy is Policy.LATEST):
                    break
                else:
                    self._changed.wait()
        return taken

    def leave(self, gone: Gone) -> None:
        """Whoever takes with this `gone` goes away with what it has taken; for a taker that ends before the intake does."""
        with self._changed:
            gone.gone = True
            self._changed.notify_all()

    def end(self, *sources: int) -> None:
        """These sources, or all, have no more frames; those that wait can still be taken."""
        with self._changed:
            for source in sources or tuple(self._boxes):
                if source in self._boxes:
                    self._boxes[source].is_open = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends all sources at once, and those to come; what waits is dropped and counted."""
        with self._changed:
            self._stopped = True
            for source in self._boxes:
                self._shut(source)
            self._changed.notify_all()

    def _shut(self, source: int) -> None:
        box = self._boxes[source]
        box.is_open = False
        box.count.dropped += len(box.waiting)
        box.waiting.clear()

    def _ended(self) -> bool:
        return self._stopped or not (self._standing or any(box.is_open for box in self._boxes.values()))

    def _next(self) -> int | None:
        """The first source from whose turn it is that has a frame; whoever is after it is next."""
        for _ in range(len(self._turns)):
            source = self._turns[0]
            self._turns.rotate(-1)
            if self._boxes[source].waiting:
                return source
        return None


@dataclass(slots=True)
class Gone:
    """Whether a taker left; true once it has."""

    gone: bool = False

    def __bool__(self) -> bool:
        return self.gone
