"""`PoseSmoother`: the One-Euro filter on every keypoint of every tracked person: still people stand still, fast hands are not late.

After G. Casiez, N. Roussel, D. Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems" (CHI 2012).
Speeds are measured in body sizes a second, so that one setting serves the near and the far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.runtime.poses import Poses
from edgepose.runtime.tracking import body_sizes

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OneEuro:
    """The paper's three parameters. `minimum_hz` is the cut-off of what stands still: lower is calmer. `beta` raises it by the speed, in Hz
    per body size a second: higher is quicker. `speed_hz` is the cut-off of the speed itself.
    """

    minimum_hz: float = 0.3
    beta: float = 4.0
    speed_hz: float = 1.0


class PoseSmoother:
    """Smooths the people of one camera by their ids. A keypoint that was hidden starts anew; people unseen for `memory_s` are forgotten."""

    def __init__(self, keypoints: int, parameters: OneEuro | None = None, memory_s: float = 1.0) -> None:
        self._parameters, self._memory_s = parameters or OneEuro(), memory_s
        self._ids = np.empty(0, np.int64)
        self._xy: Floats = np.empty((0, keypoints, 2))
        self._speed: Floats = np.empty((0, keypoints, 2))
        self._seen_s: Floats = np.empty(0)

    def update(self, poses: Poses, time_s: float) -> Poses:
        """The same people, who have ids, in the same frame of coordinates; absent keypoints stay so. `time_s` is the frame's."""
        ids = poses.ids
        if ids is None:
            raise ValueError("people without ids: track them first")
        measured = poses.keypoints[..., :2].astype(np.float64)
        self._seen_s = np.minimum(self._seen_s, time_s)  # a clock that goes back goes on from there
        recent = time_s - self._seen_s <= self._memory_s
        same = (self._ids[:, None] == ids) & recent[:, None]
        before, known = same.argmax(0) if len(self._ids) else np.zeros(len(ids), np.intp), same.any(0)
        xy, speed = measured.copy(), np.zeros_like(measured)
        rows = before[known]
        xy[known], speed[known] = self._filtered(measured[known], rows, time_s - self._seen_s[rows])
        self._remember(recent & ~same.any(1), ids, xy, speed, time_s)
        return poses.moved(xy)

    def _filtered(self, measured: Floats, rows: NDArray[np.intp], passed: Floats) -> tuple[Floats, Floats]:
        """(positions, speeds). A frame at the same moment as the last changes nothing."""
        parameters, passed = self._parameters, passed[:, None, None]
        last, moment = self._xy[rows], passed == 0
        seen = np.isfinite(last)
        raw = (measured - last) / np.where(moment, np.inf, passed)
        speed = self._speed[rows]
        speed = np.where(np.isfinite(raw), speed + _gain(parameters.speed_hz, passed) * (raw - speed), 0)
        faster = np.hypot(speed[..., :1], speed[..., 1:]) / body_sizes(measured)[:, None, None]
        gain = _gain(parameters.minimum_hz + parameters.beta * faster, passed)
        return np.where(seen, last + gain * (measured - last), measured), speed

    def _remember(self, away: NDArray[np.bool_], ids: NDArray[np.int64], xy: Floats, speed: Floats, time_s: float) -> None:
        self._ids = np.concatenate([self._ids[away], ids])
        self._xy = np.concatenate([self._xy[away], xy])
        self._speed = np.concatenate([self._speed[away], speed])
        self._seen_s = np.concatenate([self._seen_s[away], np.full(len(ids), time_s)])


def _gain(cut_off_hz: Floats | float, passed_s: Floats) -> Floats:
    """What an exponential filter takes of a new value after `passed_s`."""
    turn = 2 * np.pi * np.asarray(cut_off_hz) * passed_s
    return np.asarray(turn / (turn + 1))
