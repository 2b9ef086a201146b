"""`PersonalEvent`: what one person does for a while, said once when it starts and once when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.body import Body
from edgepose.runtime.daemon.events.people import Known, PeopleMemory
from edgepose.runtime.daemon.events.steady import SteadyCount
from edgepose.runtime.daemon.events.zones import Zones


class Judge(Protocol):
    """One person's history."""

    def judge(self, time_s: float, body: Body) -> bool | None:
        """Whether the person does it in this frame; None where that cannot be told."""

    def detail(self) -> dict[str, object]:
        """Figures for the event that starts."""


J = TypeVar("J", bound=Judge)


@dataclass(slots=True)
class _Person(Generic[J]):
    judge: J
    steady: SteadyCount
    zones: tuple[str | None, ...] = ()


class PersonalEvent(Generic[J]):
    """Of each tracked person of a camera. The zones are those the person stood in when it began; whoever is not seen for `until_s`, or a
    second where that is less, has ended it."""

    def __init__(
        self, camera: str, kind: str, wanted: Sequence[str], zones: Zones, new: Callable[[], J], after_s: float, until_s: float
    ) -> None:
        zones.check(wanted, kind)
        self._camera, self._kind, self._wanted, self._zones = camera, kind, tuple(dict.fromkeys(wanted)) or (None,), zones
        self._people = PeopleMemory(lambda: _Person(new(), SteadyCount(after_s, until_s)), max(until_s, 1.0))

    def update(self, time_s: float, at_s: float, bodies: Sequence[Body]) -> list[Event]:
        seen, _, gone = self._people.update(time_s, bodies)
        events = [event for body, known in seen for event in self._followed(time_s, at_s, body, known)]
        return events + self._ended(at_s, gone, {"reason": "not seen any more"})

    def close(self, at_s: float, reason: str) -> list[Event]:
        """Ends what lasts."""
        return self._ended(at_s, self._people.drop(), {"reason": reason})

    def _followed(self, time_s: float, at_s: float, body: Body, known: Known[_Person[J]]) -> list[Event]:
        person = known.memory
        does = person.judge.judge(time_s, body)
        before, now = person.steady.count, person.steady.update(time_s, None if does is None else int(does))
        if now == before:
            return []
        if not now:
            return self._ended(at_s, [known], {})
        person.zones = tuple(zone for zone in self._wanted if self._zones.hold(zone, body.place))
        detail = person.judge.detail()
        return [Event(self._camera, self._kind, "started", at_s, zone, person=known.id, detail=detail) for zone in person.zones]

    def _ended(self, at_s: float, people: Sequence[Known[_Person[J]]], detail: dict[str, object]) -> list[Event]:
        events = []
        for known in people:
            events += [Event(self._camera, self._kind, "ended", at_s, zone, person=known.id, detail=detail) for zone in known.memory.zones]
            known.memory.zones = ()
        return events
