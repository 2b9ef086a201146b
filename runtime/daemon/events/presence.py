"""`Presence`: somebody is there, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.body import Body
from edgepose.runtime.daemon.events.settings import PresenceSettings
from edgepose.runtime.daemon.events.steady import SteadyCount
from edgepose.runtime.daemon.events.zones import Zones

EventState = Literal["started", "changed", "ended"]


class Presence:
    """`started` with the first person, `changed` with another count, `ended` when nobody is left, in each zone."""

    def __init__(self, camera: str, settings: PresenceSettings, zones: Zones) -> None:
        zones.check(settings.zones, settings.kind)
        self._camera, self._zones = camera, zones
        self._counts = {name: SteadyCount(settings.after_s, settings.until_s) for name in settings.zones or (None,)}

    def update(self, time_s: float, at_s: float, bodies: Sequence[Body]) -> list[Event]:
        events = []
        for zone, steady in self._counts.items():
            before = steady.count
            now = steady.update(time_s, sum(self._zones.hold(zone, body.place) for body in bodies))
            if now != before:
                state: EventState = "changed" if now and before else "started" if now else "ended"
                events.append(Event(self._camera, "presence", state, at_s, zone, count=now))
        return events

    def close(self, at_s: float, reason: str) -> list[Event]:
        """Ends what lasts."""
        lasting = [zone for zone, steady in self._counts.items() if steady.count]
        for steady in self._counts.values():
            steady.reset()
        return [Event(self._camera, "presence", "ended", at_s, zone, count=0, detail={"reason": reason}) for zone in lasting]
