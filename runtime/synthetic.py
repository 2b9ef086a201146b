"""`SyntheticPeople`: moving people whose every keypoint is known at every time, for tests, demonstrations and the tracker's figures.

They walk to and fro across the picture at their own pace, swing arms and legs, and cross; whoever stands farther down is nearer and hides
keypoints of those behind. Nothing is random but what the seed draws at the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgepose.engines.record import Record
from edgepose.engines.skeleton import COCO18, Skeleton
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import Frame

Picture = NDArray[np.uint8]
_SWING = 0.45
"""Of an arm or leg from the vertical, in radians."""
_UPRIGHT = {
    "nose": (0.02, 0.1),
    "right_eye": (0.0, 0.085),
    "left_eye": (0.035, 0.085),
    "right_ear": (-0.035, 0.095),
    "left_ear": (0.05, 0.095),
    "head": (0.0, 0.04),
    "neck": (0.0, 0.18),
    "chest": (0.0, 0.33),
    "mid_hip": (0.0, 0.5),
    "right_shoulder": (-0.08, 0.19),
    "left_shoulder": (0.08, 0.19),
    "right_hip": (-0.05, 0.5),
    "left_hip": (0.05, 0.5),
}
"""Keypoint -> (right of the middle, below the crown) in body heights."""
_LIMBS = (("shoulder", "elbow", "wrist", 0.16, 0.9), ("hip", "knee", "ankle", 0.24, 0.35))
"""Root, middle, end, length of each half, how far the middle bends; lengths in body heights."""
_TORSO = ("right_shoulder", "left_shoulder", "left_hip", "right_hip")


class Pattern(Record):
    """What `test:pattern?KEY=VALUE&...` may say. `pace` "live" gives frames when they are due, as a camera does; "free" at once."""

    people: int = Field(default=3, ge=0, le=1000)
    width: int = Field(default=1280, ge=16, le=7680)
    height: int = Field(default=720, ge=16, le=7680)
    fps: float = Field(default=30.0, ge=0.001, le=1000)
    frames: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    pace: Literal["live", "free"] = "live"


class SyntheticSource:
    """A camera that sees synthetic people; `people.at(frame.time_s)` is the truth about a frame."""

    def __init__(self, pattern: Pattern, skeleton: Skeleton = COCO18) -> None:
        self._pattern = pattern
        self.people = SyntheticPeople(skeleton, pattern.people, (pattern.width, pattern.height), pattern.seed)

    @property
    def count(self) -> int | None:
        return self._pattern.frames

    @property
    def is_video(self) -> bool:
        return True

    @property
    def is_live(self) -> bool:
        return self._pattern.pace == "live"

    @property
    def fps(self) -> Fraction:
        return Fraction(self._pattern.fps).limit_denominator(1001)

    def frames(self) -> Iterator[Frame]:
        """Under "live" a frame that is asked for too late comes at once, and the next when it is due: none is left out."""
        began, index = time.monotonic(), 0
        while self._pattern.frames is None or index < self._pattern.frames:
            time_s = index / self._pattern.fps
            picture = self.people.picture(time_s)
            if self._pattern.pace == "live":
                time.sleep(max(0.0, began + time_s - time.monotonic()))
            yield Frame(picture, f"pattern_{index:012d}", index, time_s)
            index += 1


class SyntheticPeople:
    """`count` people in a picture of `size_wh`, for a skeleton whose keypoints have COCO's names; others stay absent."""

    def __init__(self, skeleton: Skeleton, count: int = 3, size_wh: tuple[int, int] = (1280, 720), seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._skeleton, self._size_wh = skeleton, size_wh
        self._ids = np.arange(1, count + 1)
        self._start = rng.uniform(0, 2, count)
        self._speed = rng.uniform(0.06, 0.2, count) * rng.choice([-1, 1], count)
        self._feet = np.sort(rng.uniform(0.72, 0.96, count))
        self._height = rng.uniform(0.5, 0.62, count) * (self._feet / 0.96)
        self._stride_hz = rng.uniform(0.7, 1.1, count)
        self._hue = np.linspace(0, 179, count, endpoint=False)

    def at(self, time_s: float) -> Poses:
        """Who is where, in picture pixels: ids from 1, nearer people later, hidden keypoints absent."""
        bodies = [self._body(i, time_s) for i in range(len(self._ids))]
        table = np.full((len(bodies), len(self._skeleton.keypoints), 3), (np.nan, np.nan, 0), np.float32)
        for i, body in enumerate(bodies):
            for k, name in enumerate(self._skeleton.keypoints):
                if name in body and not any(_covers(nearer, body[name]) for nearer in bodies[i + 1 :]):
                    table[i, k] = (*body[name], 1)
        return Poses(table, np.ones(len(bodies), np.float32), self._ids)

    def picture(self, time_s: float) -> Picture:
        """(height, width, 3) BGR: stick figures in their own colours on a grey gradient."""
        w, h = self._size_wh
        shade = np.linspace(60, 140, h, dtype=np.uint8)
        picture = np.ascontiguousarray(np.broadcast_to(shade[:, None, None], (h, w, 3)))
        for i in range(len(self._ids)):
            self._draw(picture, self._body(i, time_s), i)
        return picture

    def _body(self, i: int, time_s: float) -> dict[str, tuple[float, float]]:
        """Keypoint -> pixel."""
        w, h = self._size_wh
        height = self._height[i] * h
        phase = (self._start[i] + self._speed[i] * time_s) % 2
        middle = (0.08 + 0.84 * (1 - abs(1 - phase))) * w
        top = self._feet[i] * h - height
        step = np.sin(2 * np.pi * self._stride_hz[i] * time_s)
        places = dict(_UPRIGHT)
        for root, joint, end, half, bend in _LIMBS:
            for side, turn in (("right", step), ("left", -step)):
                x, y = places[f"{side}_{root}"]
                angle = _SWING * (turn if root == "hip" else -turn)
                knee = (x + half * np.sin(angle), y + half * np.cos(angle))
                lower = angle - bend * 0.5 * (1 + turn) * (1 if root == "hip" else -1)
                places[f"{side}_{joint}"] = knee
                places[f"{side}_{end}"] = (knee[0] + half * np.sin(lower), knee[1] + half * np.cos(lower))
        return {name: (middle + x * height, top + y * height) for name, (x, y) in places.items()}

    def _draw(self, picture: Picture, body: dict[str, tuple[float, float]], i: int) -> None:
        hue = np.array([[[self._hue[i], 200, 230]]], np.uint8)
        colour = tuple(int(c) for c in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])
        thick = max(2, round(0.03 * self._height[i] * self._size_wh[1]))
        cv2.fillPoly(picture, [np.array([body[name] for name in _TORSO]).round().astype(np.int32)], colour)
        for limb in self._skeleton.limbs:
            ends = [self._skeleton.keypoints[k] for k in (limb.start, limb.end)]
            if all(name in body for name in ends):
                a, b = ((round(x), round(y)) for x, y in (body[name] for name in ends))
                cv2.line(picture, a, b, colour, thick, cv2.LINE_AA)


def _covers(nearer: dict[str, tuple[float, float]], point: tuple[float, float]) -> bool:
    """Whether a body's torso lies in front of a point."""
    torso = np.array([nearer[name] for name in _TORSO], np.float32)
    return cv2.pointPolygonTest(torso, (float(point[0]), float(point[1])), False) >= 0
