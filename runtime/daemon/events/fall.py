"""`Fall`: somebody went down fast and stays down.

After the phases of a fall (N. Noury et al., "A proposal for the classification and evaluation of fall detectors", IRBM 29, 2008):
upright, the critical phase, lying, recovery. As W. Chen, Z. Jiang, H. Guo, X. Ni, "Fall Detection Based on Key Points of Human-Skeleton
Using OpenPose" (Symmetry 12, 2020) it goes by the speed at which the hips sink and the angle of the torso, and has the person get up
again. That a fall is told from lying down by its vertical speed is A. K. Bourke, K. J. O'Donovan, G. O'Laighin, "The identification of
vertical velocity profiles using an inertial sensor to investigate pre-impact detection of falls" (Med. Eng. Phys. 30, 2008; 1.3 m/s at
the trunk). Proportions of the body are R. Drillis and R. Contini's ("Body Segment Parameters", 1966), rounded.

Everything is measured in the person's own height, which is learned while they are upright, so that near and far are alike. Sitting down
is fast but leaves the torso upright; bending lays the torso but leaves the hips where they are; who walks towards the camera grows, and
stays upright.
"""

from __future__ import annotations

from collections import deque
from math import hypot

from edgepose.runtime.daemon.events.body import Anatomy, Body, Point
from edgepose.runtime.daemon.events.personal import PersonalEvent
from edgepose.runtime.daemon.events.settings import FallSettings
from edgepose.runtime.daemon.events.steady import followed
from edgepose.runtime.daemon.events.zones import Zones

_TORSO, _SHOULDERS, _HIPS = 0.3, 0.8, 0.5
"""Length of the torso; height of shoulders and hips of who stands: in body heights."""
_UPRIGHT_DEG, _STANDING_DEG = 40.0, 30.0
_SHORT = 0.6
"""A torso seen shorter than this part of its length points towards the camera or away from it."""
_LOW_HIPS, _LOW_SHOULDERS = 0.17, 0.28
"""Of who lies across the picture, above the ground, in body heights: who sits on a chair has the hips at 0.3, who ties a shoe at 0.25,
with the shoulders at a third."""
_AWAY_HIPS, _AWAY_SHOULDERS, _AWAY_TORSO = 0.3, 0.45, 0.05
"""Of who lies away from a camera that looks down: hips and shoulders seem higher, and the shoulders higher than the hips; who crouches
towards the camera has them as high as the hips."""
_GROWS_S, _SHRINKS_S, _GROUND_S, _GUESSED_GROUND_S = 0.5, 3.0, 0.3, 2.0
"""How fast what is learned of the person follows what is seen."""
_WINDOW_S = (0.15, 0.35, 1.5)
"""The speed is taken over about the second, never less than the first; over up to the third where the person was not found meanwhile."""
_CRITICAL_S = 2.0
"""From the fast descent to lying."""
_RECOVERED_S = 1.0
_STILL = 0.3
"""Who is moved by more than this, in body heights, does not lie still."""


class Fall(PersonalEvent["FallJudge"]):
    """`started` when somebody who went down fast has stayed down for `after_s`, `ended` when they are upright again, or gone."""

    def __init__(self, camera: str, settings: FallSettings, zones: Zones, anatomy: Anatomy) -> None:
        anatomy.check(settings.kind, "shoulders", "hips")
        after_s, until_s = settings.after_s, settings.until_s
        super().__init__(camera, settings.kind, settings.zones, zones, lambda: FallJudge(settings), after_s, until_s)


class FallJudge:
    """One person, in heights of the picture."""

    def __init__(self, settings: FallSettings) -> None:
        self._least_speed, self._angle = settings.speed, settings.angle
        self._size: float | None = None
        self._ground = 0.0
        self._seen_s: float | None = None
        self._trunk: deque[tuple[float, float]] = deque(maxlen=256)
        self._fast_s, self._speed = -1e9, 0.0
        self._fallen, self._upright_s = False, 0.0
        self._lies: Point = (0.0, 0.0)

    def judge(self, time_s: float, body: Body) -> bool | None:
        angle, torso = body.angle, body.torso
        if angle is None or torso is None or body.shoulders is None or body.hips is None:
            return None
        passed, self._seen_s = 0.0 if self._seen_s is None else time_s - self._seen_s, time_s
        if self._size is None or torso > 0.7 * _TORSO * self._size:
            self._learn(body, angle, torso, passed)
        if self._size is None:
            return False  # never seen upright
        self._measure(time_s, (body.shoulders[1] + body.hips[1]) / 2, self._size)
        hips, shoulders = (self._ground - body.hips[1]) / self._size, (self._ground - body.shoulders[1]) / self._size
        short = torso < _SHORT * _TORSO * self._size
        if (_lies_across(hips, shoulders) and (angle >= self._angle or short)) or (short and _lies_away(hips, shoulders)):
            return self._down(time_s, body.hips, self._size)
        return self._up(passed, angle < _UPRIGHT_DEG and not short)

    def detail(self) -> dict[str, object]:
        return {"speed": round(self._speed, 2)}

    def _learn(self, body: Body, angle: float, torso: float, passed: float) -> None:
        """Height and ground of who is upright."""
        if angle > _STANDING_DEG or body.shoulders is None or body.hips is None:
            return
        lowest = max((y for _, y in body.ankles), default=None)
        size = torso / _TORSO if lowest is None else max(torso / _TORSO, (lowest - body.shoulders[1]) / _SHOULDERS)
        before = self._size or size
        self._size = followed(before, size, passed, _GROWS_S if size > before else _SHRINKS_S)
        ground, follows_s = (lowest, _GROUND_S) if lowest is not None else (body.hips[1] + _HIPS * self._size, _GUESSED_GROUND_S)
        self._ground = followed(self._ground or ground, ground, passed, follows_s)

    def _measure(self, time_s: float, trunk: float, size: float) -> None:
        """How fast the trunk sinks."""
        least_s, wanted_s, most_s = _WINDOW_S
        while self._trunk and time_s - self._trunk[0][0] > most_s:
            self._trunk.popleft()
        earlier = [(abs(time_s - at_s - wanted_s), at_s, y) for at_s, y in self._trunk if time_s - at_s >= least_s]
        if earlier:
            _, at_s, y = min(earlier)
            speed = (trunk - y) / (time_s - at_s) / size
            if speed >= max(self._least_speed, self._speed if time_s - self._fast_s <= _CRITICAL_S else 0.0):
                self._fast_s, self._speed = time_s, speed
        self._trunk.append((time_s, trunk))

    def _down(self, time_s: float, hips: Point, size: float) -> bool | None:
        if not self._fallen:
            if self._least_speed > 0 and time_s - self._fast_s > _CRITICAL_S:
                return False
            self._fallen, self._lies = True, hips
        self._upright_s = 0.0
        if hypot(hips[0] - self._lies[0], hips[1] - self._lies[1]) > _STILL * size:
            self._lies = hips
            return None
        return True

    def _up(self, passed: float, upright: bool) -> bool | None:
        """None: neither upright nor quite down, as who sits up on the floor."""
        if not self._fallen:
            return False
        if not upright:
            return None
        self._upright_s += passed
        self._fallen = self._upright_s < _RECOVERED_S
        return False


def _lies_across(hips: float, shoulders: float) -> bool:
    return hips < _LOW_HIPS and shoulders < _LOW_SHOULDERS


def _lies_away(hips: float, shoulders: float) -> bool:
    return hips < _AWAY_HIPS and shoulders < _AWAY_SHOULDERS and shoulders - hips > _AWAY_TORSO
