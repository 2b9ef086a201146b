"""`PeopleMemory`: what is remembered of each tracked person, and of whom under which id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Generic, TypeVar

from edgepose.runtime.daemon.events.body import Body, Point

T = TypeVar("T")
_NEAR = 0.35
"""Of the picture's height: how far from where somebody vanished a new id may be the same person at most."""
_RETURNS_S = 3.0


@dataclass(slots=True)
class Known(Generic[T]):
    """`id` is the one that events call the person by: the first one."""

    id: int
    memory: T
    middle: Point
    seen_s: float


class PeopleMemory(Generic[T]):
    """A tracker that loses somebody for a second (people on the floor are found badly) gives them another id: whoever appears within 3 s
    near where somebody vanished is that person. `patience_s` after they were seen last people are forgotten."""

    def __init__(self, new: Callable[[], T], patience_s: float) -> None:
        self._new, self._patience_s = new, patience_s
        self._known: dict[int, Known[T]] = {}

    def update(self, time_s: float, bodies: Sequence[Body]) -> tuple[list[tuple[Body, Known[T]]], list[Known[T]], list[Known[T]]]:
        """(who is seen, who is not, who has been forgotten by now). Bodies without an id are left out."""
        seen: list[tuple[Body, Known[T]]] = []
        here = {body.person for body in bodies}
        self._give_back(here)
        for body in bodies:
            if body.person is not None:
                known = self._known.get(body.person) or self._recognised(time_s, body, here) or self._met(body)
                known.middle, known.seen_s = body.middle, time_s
                seen.append((body, known))
        forgotten = [key for key, known in self._known.items() if time_s - known.seen_s > self._patience_s]
        gone = [self._known.pop(key) for key in forgotten]
        return seen, [known for key, known in self._known.items() if key not in here], gone

    def drop(self) -> list[Known[T]]:
        """Everybody, who are forgotten."""
        gone, self._known = list(self._known.values()), {}
        return gone

    def _give_back(self, here: set[int | None]) -> None:
        """Who was taken for somebody else, who is back now, was another person after all; so no two are called the same."""
        for key, known in list(self._known.items()):
            if known.id != key and known.id in here:
                self._known[known.id] = self._known.pop(key)

    def _recognised(self, time_s: float, body: Body, here: set[int | None]) -> Known[T] | None:
        vanished = [
            (hypot(body.middle[0] - known.middle[0], body.middle[1] - known.middle[1]), key)
            for key, known in self._known.items()
            if key not in here and time_s - known.seen_s <= _RETURNS_S
        ]
        distance, key = min(vanished, default=(_NEAR, 0))
        if distance >= _NEAR or body.person is None:
            return None
        known = self._known[body.person] = self._known.pop(key)
        return known

    def _met(self, body: Body) -> Known[T]:
        assert body.person is not None
        known = self._known[body.person] = Known(body.person, self._new(), body.middle, 0.0)
        return known
