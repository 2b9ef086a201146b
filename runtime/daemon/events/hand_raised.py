"""`HandRaised`: somebody holds a hand above the head."""

from __future__ import annotations

from edgepose.runtime.daemon.events.body import Anatomy, Body
from edgepose.runtime.daemon.events.personal import PersonalEvent
from edgepose.runtime.daemon.events.settings import HandRaisedSettings
from edgepose.runtime.daemon.events.steady import followed
from edgepose.runtime.daemon.events.zones import Zones

_LYING_DEG = 60.0
_NOSE = 0.4
"""Above the shoulders, in lengths of the torso: where the head itself is not found."""
_SHORT = 0.6
"""A torso seen shorter than this part of its length points towards the camera or away from it, as of who lies."""
_GROWS_S, _SHRINKS_S = 0.5, 5.0


class HandRaised(PersonalEvent["HandJudge"]):
    """`started` when a wrist has been above the nose for `after_s`, `ended` when both have been below for `until_s`, or the person is gone.
    Where the skeleton has no nose, its head counts."""

    def __init__(self, camera: str, settings: HandRaisedSettings, zones: Zones, anatomy: Anatomy) -> None:
        anatomy.check(settings.kind, "wrists", "shoulders", "hips")
        after_s, until_s = settings.after_s, settings.until_s
        super().__init__(camera, settings.kind, settings.zones, zones, lambda: HandJudge(settings.margin), after_s, until_s)


class HandJudge:
    """One person, in heights of the picture. The torso's length is remembered: the hips of who sits at a table are hidden."""

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._torso: float | None = None
        self._seen_s = 0.0

    def judge(self, time_s: float, body: Body) -> bool | None:
        self._learn(time_s, body.torso)
        nose = self._nose(body)
        if self._torso is None or nose is None or not body.wrists:
            return None
        if (body.angle is not None and body.angle > _LYING_DEG) or (body.torso is not None and body.torso < _SHORT * self._torso):
            return False
        return min(y for _, y in body.wrists) < nose - self._margin * self._torso

    def _learn(self, time_s: float, torso: float | None) -> None:
        if torso is None:
            return
        before = torso if self._torso is None else self._torso
        self._torso = followed(before, torso, time_s - self._seen_s, _GROWS_S if torso > before else _SHRINKS_S)
        self._seen_s = time_s

    def _nose(self, body: Body) -> float | None:
        """How far down it is."""
        if body.head is not None:
            return body.head[1]
        if body.shoulders is None or self._torso is None:
            return None
        return body.shoulders[1] - _NOSE * self._torso

    def detail(self) -> dict[str, object]:
        return {}
