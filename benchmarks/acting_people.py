"""`Actor`: one synthetic person who walks, sits, bends, waves or falls in front of a camera, with every keypoint known.

A jointed body in three dimensions, seen by a pinhole camera that looks down a little: what is foreshortened in a picture is foreshortened
here. Lengths are in body heights, angles in degrees, times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.poses import Poses

Floats = NDArray[np.float64]
Frames = Mapping[str, Floats]
Keys = tuple[tuple[float, Mapping[str, float]], ...]
_STANDS: Mapping[str, float] = {"pelvis": 0.53, "ahead": 0, "pitch": 0, "thigh": 0, "shin": 0, "arm": 5, "forearm": 15, "topple": 0}
_SIT = {"pelvis": 0.29, "ahead": -0.22, "thigh": 85, "shin": -5, "pitch": 5, "arm": 20, "forearm": 70}
_SQUAT = {"pelvis": 0.22, "pitch": 40, "thigh": 105, "shin": -40, "arm": 40, "forearm": 40}
_FLOOR = {"pelvis": 0.08, "ahead": -0.2, "thigh": 85, "shin": 85, "pitch": -10, "arm": -20, "forearm": -20}
_CRUMPLED = {"pelvis": 0.1, "thigh": 95, "shin": -60, "pitch": 35}
_BENT = {"pitch": 85, "pelvis": 0.52, "ahead": -0.08, "arm": 10, "forearm": 5}
_ARMS_UP = {"right_arm": 165, "right_forearm": 175}


@dataclass(frozen=True, slots=True)
class Act:
    """Keyframes from a standing body and back; `falls_at_s` is when the body hits the ground, `raises_at_s` when the hand is up. `toward`
    is where it topples to, in degrees to the left of ahead. `speed` of walking in body heights a second, `wave_hz` of the forearm."""

    name: str
    keys: Keys
    falls_at_s: float | None = None
    raises_at_s: float | None = None
    toward: float = 0.0
    speed: float = 0.0
    wave_hz: float = 0.0
    eased: Callable[[Floats], Floats] = lambda share: share * share * (3 - 2 * share)

    @property
    def seconds(self) -> float:
        return self.keys[-1][0]


def _held(name: str, *steps: tuple[float, Mapping[str, float]], raises: bool = False, wave_hz: float = 0.0) -> Act:
    """Two seconds of standing, then each step's seconds to its posture, which the next one starts from."""
    keys, now, posture = [(0.0, _STANDS), (2.0, _STANDS)], 2.0, dict(_STANDS)
    for seconds, change in steps:
        now, posture = now + seconds, {**posture, **change} if change is not _STANDS else dict(_STANDS)
        keys.append((now, posture))
    return Act(name, tuple(keys), raises_at_s=2.0 + steps[0][0] if raises else None, wave_hz=wave_hz)


def falls(rng: np.random.Generator) -> tuple[Act, ...]:
    """One of each kind; the slow one slides down a wall."""
    return (*(_topple(name, toward, rng) for name, toward in _WAYS), _collapse(rng), _off_the_chair(rng), _slide(rng))


_WAYS = (("fall forward", 0.0), ("fall backward", 180.0), ("fall to the side", 90.0))
_LIES_S = 8.0


def _topple(name: str, toward: float, rng: np.random.Generator) -> Act:
    """Like a tree, knees a little bent: 0.7 to 1.2 s, faster and faster."""
    lands = 2.0 + rng.uniform(0.7, 1.2)
    down = {**_STANDS, "topple": 90.0, "thigh": rng.uniform(5, 40), "shin": -rng.uniform(5, 40), "arm": rng.uniform(0, 90)}
    keys = ((0.0, _STANDS), (2.0, _STANDS), (lands, down), (lands + _LIES_S, down))
    return Act(name, keys, falls_at_s=lands, toward=toward + rng.uniform(-25, 25), eased=np.square)


def _collapse(rng: np.random.Generator) -> Act:
    """Knees give way, then the body goes over."""
    knees = 2.0 + rng.uniform(0.5, 0.8)
    crumpled = {**_STANDS, **_CRUMPLED}
    down = {**crumpled, "pitch": 88.0 * rng.choice([-1, 1]), "thigh": 60.0, "shin": -30.0, "pelvis": 0.07}
    lands = knees + rng.uniform(0.4, 0.7)
    return Act("collapse", ((0.0, _STANDS), (2.0, _STANDS), (knees, crumpled), (lands, down), (lands + _LIES_S, down)), falls_at_s=lands)


def _off_the_chair(rng: np.random.Generator) -> Act:
    sits = {**_STANDS, **_SIT}
    lands = 5.0 + rng.uniform(0.5, 0.8)
    down = {**sits, "topple": 88.0, "pelvis": 0.1}
    keys = ((0.0, _STANDS), (1.0, _STANDS), (2.2, sits), (5.0, sits), (lands, down), (lands + _LIES_S, down))
    return Act("fall off a chair", keys, falls_at_s=lands, toward=rng.choice([-90.0, 90.0]), eased=np.square)


def _slide(rng: np.random.Generator) -> Act:
    slid = 2.0 + rng.uniform(1.5, 2.5)
    crumpled = {**_STANDS, "pelvis": 0.1, "thigh": 100.0, "shin": -50.0}
    down = {**crumpled, "pitch": 88.0, "thigh": 60.0, "shin": -20.0}
    keys = ((0.0, _STANDS), (2.0, _STANDS), (slid, crumpled), (slid + 1.0, down), (slid + 1.0 + _LIES_S, down))
    return Act("slide down slowly", keys, falls_at_s=slid + 1.0)


def everyday(rng: np.random.Generator) -> tuple[Act, ...]:
    """What people do who do not fall."""
    quick = rng.uniform(0.7, 1.3)
    walk = tuple((float(second), _STANDS) for second in (0, 12))
    return (
        Act("stand", walk),
        Act("walk", walk, speed=rng.uniform(0.4, 0.9)),
        Act("stumble", ((0, _STANDS), (2, _STANDS), (2.4, {**_STANDS, "topple": 30, "thigh": 30}), (3.0, _STANDS), (6, _STANDS))),
        _held("sit on a chair", (quick, _SIT), (6, {}), (quick, _STANDS), (1, {})),
        _held("drop onto a chair, lean back", (0.5, _SIT), (0.8, {"pitch": -25}), (5, {}), (1.2, _STANDS)),
        _held("sit on the floor", (1.5 * quick, _FLOOR), (6, {}), (2, _STANDS)),
        _held("bend", (quick, _BENT), (rng.uniform(0.5, 4), {}), (quick, _STANDS), (1, {})),
        _held("squat", (quick, _SQUAT), (rng.uniform(0.5, 4), {}), (quick, _STANDS), (1, {})),
        _held("tie a shoe", (quick, {**_SQUAT, "pitch": 75, "pelvis": 0.25}), (rng.uniform(2, 5), {}), (quick, _STANDS), (1, {})),
    )


def lies_down(rng: np.random.Generator) -> tuple[Act, ...]:
    """On purpose: by way of sitting, over 3 to 6 s."""
    seconds = rng.uniform(1.5, 3.0)
    return (
        _held(
            "lie down on purpose", (seconds, _FLOOR), (seconds, {"pitch": -88, "pelvis": 0.07}), (_LIES_S, {}), (3, _FLOOR), (2, _STANDS)
        ),
    )


def hands(rng: np.random.Generator) -> tuple[Act, ...]:
    """Raised, and near the head but not raised."""
    up, stay = rng.uniform(0.3, 0.8), rng.uniform(2, 5)
    return (
        _held("raise a hand", (up, _ARMS_UP), (stay, {}), (up, _STANDS), (2, {}), raises=True),
        _held("wave", (up, _ARMS_UP), (stay, {}), (up, _STANDS), (2, {}), raises=True, wave_hz=rng.uniform(1, 2.5)),
        _held("telephone", (up, {"right_arm": 35, "right_forearm": 165}), (stay, {}), (up, _STANDS), (2, {})),
        _held("arms out", (up, {"right_arm": 90, "right_forearm": 90}), (stay, {}), (up, _STANDS), (2, {})),
        _held("scratch the head", (0.4, {"right_arm": 80, "right_forearm": 165}), (0.3, {}), (0.4, _STANDS), (2, {})),
    )


@dataclass(frozen=True, slots=True)
class Camera:
    """`height` above the ground and `distance` to where the person starts, in body heights; looks at their middle. `focal` in widths."""

    height: float
    distance: float
    focal: float = 0.9
    size_wh: tuple[int, int] = (1280, 720)

    def seen(self, points: Floats) -> Floats:
        """(..., 3) right, away, up -> (..., 2) pixels; NaN outside the picture."""
        w, h = self.size_wh
        tilt = np.arctan2(self.height - 0.5, self.distance)
        away, up = points[..., 1] + self.distance, points[..., 2] - self.height
        depth = np.maximum(away * np.cos(tilt) - up * np.sin(tilt), 0.1)
        down = -(up * np.cos(tilt) + away * np.sin(tilt))
        xy = np.stack([w / 2 + self.focal * w * points[..., 0] / depth, h / 2 + self.focal * w * down / depth], -1)
        xy[((xy < 0) | (xy > (w, h))).any(-1)] = np.nan
        return xy


class Actor:
    """One act, seen by one camera; `heading` is where the person looks: 0 to the right, -90 towards the camera."""

    def __init__(self, act: Act, camera: Camera, heading: float, skeleton: Skeleton) -> None:
        self.act, self.camera = act, camera
        self._heading, self._skeleton = np.radians(heading), skeleton

    def at(self, times_s: Floats) -> Floats:
        """(frames, keypoints, 2) pixels; NaN where the skeleton's keypoint is not one of ours or outside the picture."""
        frames = _interpolated(self.act, times_s)
        body = _toppled(_placed(frames, self.act, times_s), np.radians(frames["topple"]), np.radians(self.act.toward))
        c, s = np.cos(self._heading), np.sin(self._heading)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        nowhere = np.full((len(times_s), 3), np.nan)
        points = np.stack([body.get(name, nowhere) for name in self._skeleton.keypoints], 1) @ turn
        return self.camera.seen(points)


def _interpolated(act: Act, times_s: Floats) -> dict[str, Floats]:
    moments = np.array([at for at, _ in act.keys])
    after = np.clip(np.searchsorted(moments, times_s, "right"), 1, len(moments) - 1)
    share = act.eased(np.clip((times_s - moments[after - 1]) / np.maximum(moments[after] - moments[after - 1], 1e-9), 0, 1))
    frames = {}
    for name in {*_STANDS, *_ARMS_UP}:
        values = np.array([key.get(name, key[name.removeprefix("right_")]) for _, key in act.keys])
        frames[name] = values[after - 1] + share * (values[after] - values[after - 1])
    if act.wave_hz:
        frames["right_forearm"] += np.where(frames["right_arm"] > 90, 30 * np.sin(2 * np.pi * act.wave_hz * times_s), 0)
    return frames


def _placed(frames: Frames, act: Act, times_s: Floats) -> dict[str, Floats]:
    """Keypoint -> (frames, 3) ahead, left, up."""
    swing = 25 * np.sin(2 * np.pi * 0.9 * times_s) * (act.speed > 0)
    pelvis = _vector(frames["ahead"] + act.speed * times_s - act.speed * act.seconds / 2, 0, frames["pelvis"])
    along, across = _upward(frames["pitch"]), _upward(frames["pitch"] + 90)
    neck = pelvis + 0.3 * along
    body = {"neck": neck, "mid_hip": pelvis, "nose": neck + 0.12 * along + 0.06 * across, "head": neck + 0.2 * along}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm = "right_" if side == "right" else ""
        hip, shoulder = pelvis + _vector(0, 0.06 * sign, 0), neck + _vector(0, 0.11 * sign, 0)
        knee = hip + 0.245 * _downward(frames["thigh"] + sign * swing)
        elbow = shoulder + 0.17 * _downward(frames[f"{arm}arm"] - sign * swing)
        body |= {f"{side}_hip": hip, f"{side}_shoulder": shoulder, f"{side}_knee": knee, f"{side}_elbow": elbow}
        body[f"{side}_ankle"] = knee + 0.245 * _downward(frames["shin"] + sign * swing - np.abs(swing) / 2)
        body[f"{side}_wrist"] = elbow + 0.15 * _downward(frames[f"{arm}forearm"] - sign * swing)
        body[f"{side}_eye"] = neck + 0.14 * along + 0.05 * across + _vector(0, 0.02 * sign, 0)
        body[f"{side}_ear"] = neck + 0.13 * along + _vector(0, 0.045 * sign, 0)
    return body


def _toppled(body: Mapping[str, Floats], angle: Floats, toward: float) -> dict[str, Floats]:
    """Turned about the feet; nothing goes below the ground."""
    over = np.array([np.cos(toward), np.sin(toward), 0.0])
    turned = {}
    for name, points in body.items():
        along, up = points @ over, points[:, 2]
        moved = along * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - along * np.sin(angle)
        turned[name] = points + (moved[0] - along)[:, None] * over + _vector(0, 0, np.maximum(moved[1], 0.04) - up)
    return turned


def _vector(ahead: Floats | float, left: float, up: Floats | float) -> Floats:
    return np.stack(np.broadcast_arrays(*np.atleast_1d(ahead, left, up)), -1).astype(np.float64)


def _upward(degrees: Floats) -> Floats:
    return _vector(np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees)))


def _downward(degrees: Floats) -> Floats:
    return _vector(np.sin(np.radians(degrees)), 0, -np.cos(np.radians(degrees)))


def poses_seen(xy: Floats, rng: np.random.Generator, noise_px: float, hidden: float, missed: float) -> Poses:
    """What a network makes of one frame (keypoints, 2) of one person: noise, keypoints hidden, now and then nobody."""
    keypoints = np.concatenate([xy + rng.normal(0, noise_px, xy.shape), np.ones((len(xy), 1))], -1)
    keypoints[(rng.random(len(xy)) < hidden) | np.isnan(xy[:, 0])] = (np.nan, np.nan, 0)
    found = rng.random() >= missed and np.count_nonzero(keypoints[:, 2]) >= 3
    return Poses(keypoints[None][: int(found)].astype(np.float32), np.ones(int(found), np.float32))
