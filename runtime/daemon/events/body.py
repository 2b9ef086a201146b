"""`Body`: the parts of a person that events go by, whatever the network calls and numbers its keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees, hypot

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.poses import Poses

Point = tuple[float, float]
_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "shoulders": (("left_shoulder", "right_shoulder"), ("neck",)),
    "hips": (("left_hip", "right_hip"), ("mid_hip",)),
    "wrists": (("left_wrist", "right_wrist"),),
    "head": (("nose",), ("head",), ("left_eye", "right_eye"), ("left_ear", "right_ear")),
}
"""Part -> keypoints that say where it is, in any of these ways."""


@dataclass(frozen=True, slots=True)
class Body:
    """Points are (x, y) in heights of the picture, so that all directions are alike; None where not found.

    `place` is where the person stands, in fractions of the picture's width and height: the middle of the ankles that were found, else of
    the hips, else the middle of the lower edge of the box around all keypoints. `person` is the tracked id, None where nobody tracks.
    """

    person: int | None
    place: Point
    middle: Point
    shoulders: Point | None
    hips: Point | None
    head: Point | None
    wrists: tuple[Point, ...]
    ankles: tuple[Point, ...]

    @property
    def torso(self) -> float | None:
        """Its length."""
        if self.shoulders is None or self.hips is None:
            return None
        return hypot(self.hips[0] - self.shoulders[0], self.hips[1] - self.shoulders[1])

    @property
    def angle(self) -> float | None:
        """Of the torso from the vertical, in degrees: 0 upright, 90 lying, 180 upside down."""
        if self.shoulders is None or self.hips is None:
            return None
        return degrees(atan2(abs(self.hips[0] - self.shoulders[0]), self.hips[1] - self.shoulders[1]))


class Anatomy:
    """Where a skeleton has the parts."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._index = {name: k for k, name in enumerate(skeleton.keypoints)}

    def check(self, kind: str, *parts: str) -> None:
        """Raises ConfigError where the skeleton lacks one that this kind of event goes by."""
        for part in parts:
            if not any(set(names) <= set(self._index) for names in _PARTS[part]):
                wanted = " or ".join(" and ".join(names) for names in _PARTS[part])
                raise ConfigError(
                    f"event {kind!r} needs the {part} of people, and skeleton {self._skeleton.name!r} has no {wanted}:"
                    " take a bundle of another network, or leave the event out"
                )

    def bodies(self, poses: Poses, size_wh: tuple[int, int]) -> list[Body]:
        """`poses` in the pixels of a picture of `size_wh`; who has no keypoint at all is left out."""
        w, h = size_wh
        ids = [None] * len(poses) if poses.ids is None else poses.ids.tolist()
        bodies = []
        for person, keypoints in zip(ids, poses.keypoints.tolist(), strict=True):
            found = {name: (x / h, y / h) for name, (x, y, c) in zip(self._index, keypoints, strict=True) if c > 0}
            if found:
                bodies.append(_body(person, found, w / h))
        return bodies


def _body(person: int | None, found: dict[str, Point], aspect: float) -> Body:
    left, right = min(x for x, _ in found.values()), max(x for x, _ in found.values())
    top, bottom = min(y for _, y in found.values()), max(y for _, y in found.values())
    hips = _middle(found, ("left_hip", "right_hip"), "mid_hip")
    ankles = _those(found, ("left_ankle", "right_ankle"))
    stands = _mean(ankles) or hips or ((left + right) / 2, bottom)
    return Body(
        person=person,
        place=(stands[0] / aspect, stands[1]),
        middle=((left + right) / 2, (top + bottom) / 2),
        shoulders=_middle(found, ("left_shoulder", "right_shoulder"), "neck"),
        hips=hips,
        head=_head(found),
        wrists=_those(found, ("left_wrist", "right_wrist")),
        ankles=ankles,
    )


def _middle(found: dict[str, Point], sides: tuple[str, str], between: str) -> Point | None:
    """Of both sides, else the keypoint between them, else the one side there is."""
    both = _those(found, sides)
    return _mean(both) if len(both) == 2 else found.get(between) or _mean(both)


def _head(found: dict[str, Point]) -> Point | None:
    return next((place for names in _PARTS["head"] if (place := _mean(_those(found, names)))), None)


def _those(found: dict[str, Point], names: Sequence[str]) -> tuple[Point, ...]:
    return tuple(found[name] for name in names if name in found)


def _mean(points: Sequence[Point]) -> Point | None:
    if not points:
        return None
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
