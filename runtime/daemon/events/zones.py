"""`Zones`: parts of a camera's picture, and who is in them."""

from __future__ import annotations

from collections.abc import Sequence

from edgepose.engines.errors import ConfigError
from edgepose.engines.record import did_you_mean
from edgepose.runtime.daemon.events.settings import ZoneSettings

Point = tuple[float, float]


class Zones:
    """The zones of one camera."""

    def __init__(self, camera: str, zones: Sequence[ZoneSettings]) -> None:
        names = [zone.name for zone in zones]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"camera {camera!r}: there are two zones {doubled[0]!r}: give each its own name")
        self._camera, self._polygons = camera, {zone.name: zone.polygon for zone in zones}

    def check(self, wanted: Sequence[str], kind: str) -> None:
        """Raises ConfigError for a zone that is not there."""
        for name in wanted:
            if name not in self._polygons:
                known = list(self._polygons)
                listed = f"wanted one of {', '.join(known)}" if known else "this camera has no zones"
                raise ConfigError(f"camera {self._camera!r}, {kind}: zone {name!r} is unknown{did_you_mean(name, known)}: {listed}")

    def hold(self, name: str | None, place: Point) -> bool:
        """Whether a place (fractions of width and height) is in the zone; None: the whole picture. A place beyond the picture's edge counts
        as on it, so that somebody whose feet are below the picture is in a zone that reaches down to it."""
        if name is None:
            return True
        x, y = (min(max(part, 1e-6), 1 - 1e-6) for part in place)
        return _inside(self._polygons[name], x, y)


def _inside(polygon: Sequence[Point], x: float, y: float) -> bool:
    """By the number of edges that a ray to the right crosses (even-odd, so that polygons may cross themselves)."""
    inside = False
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            inside = not inside
    return inside
