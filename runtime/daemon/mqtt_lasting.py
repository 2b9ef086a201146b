"""`Lasting`: what began and has not ended, by the events that told of it."""

from __future__ import annotations

from typing import TypeVar

from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.mqtt_discovery import Watched

K = TypeVar("K")
V = TypeVar("V")
_MOST = 1000
"""Things that last, and people in one of them: a hook may tell of beginnings without end, and the oldest are forgotten."""


class Lasting:
    """Whom it lasts for, and the last count told of it. For one thread."""

    def __init__(self) -> None:
        self._doing: dict[Watched, dict[int | None, int]] = {}

    def __contains__(self, watched: Watched) -> bool:
        return watched in self._doing

    def count(self, watched: Watched) -> int:
        """0 where it does not last."""
        return max(self._doing.get(watched, {}).values(), default=0)

    def note(self, watched: Watched, event: Event) -> None:
        """What changed lasts too: its beginning may have been lost."""
        doing = self._doing.pop(watched, {})  # and put back as the newest
        if event.state == "ended":
            doing.pop(event.person, None)
        elif event.state != "happened":
            doing[event.person] = event.count or 0
        if doing:
            self._doing[watched] = doing
        _bound(doing)
        _bound(self._doing)


def _bound(things: dict[K, V]) -> None:
    if len(things) > _MOST:
        del things[next(iter(things))]
