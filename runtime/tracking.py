"""`PoseTracker`: who in this picture is who in the last one.

Each person is expected where its last velocity takes it, and takes the detection nearest to that. A person that is not
seen keeps its id for a while and goes on moving. Similarity is near OKS (COCO's, with one width for all keypoints) in its meaning; its form
is Cauchy's instead of Gauss's, which keeps a slope far away, where a fast start or a low frame rate puts people.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgepose.runtime.poses import Poses

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
_NEAR = 0.06
"""Distance at which a keypoint counts half, in body sizes."""
LEAST_SIMILARITY = 0.02
"""For a pair: keypoints some 0.4 body sizes off."""
_LEAST_GAIN = 1e-9
_TOGETHER = 3
"""Fewer common keypoints count for less: one wrist is no evidence."""
_VELOCITY_GAIN = 0.15
_SIZE_GAIN = 0.2
_STILL_S = 0.5
"""After so long unseen a person is expected to have stopped."""
_LEAST_SIZE_PX = 8.0
_PERIODS, _FADES = 2.0, 0.9
"""How many of the longest recent times between two frames somebody may be away; of each time so much is left after a frame."""
_OUTAGE = 3.0
"""A time that is so much longer than those before is no frame rate."""


class PoseTracker:
    """Gives each person an id, counted from 1, that stays with it. For one camera, frames in order of time.

    A person unseen for `memory_s`, or for two frames where they come more slowly or unevenly, is forgotten. `match` makes pairs from
    similarities (tracks, persons) in 0-1: with `best_pairs` those who cross exchange their ids as rarely as with the Hungarian method, see
    docs/pipeline.md.
    """

    def __init__(self, keypoints: int, memory_s: float = 1.0, match: Callable[[Floats], tuple[Indices, Indices]] | None = None) -> None:
        self._memory_s, self._match, self._next = memory_s, match or best_pairs, 1
        self._ids = np.empty(0, np.int64)
        self._xy: Floats = np.empty((0, keypoints, 2))
        self._velocity: Floats = np.empty((0, 1, 2))
        self._size: Floats = np.empty(0)
        self._seen_s: Floats = np.empty(0)
        self._period_s, self._last_s = 0.0, np.inf

    def update(self, poses: Poses, time_s: float) -> NDArray[np.int64]:
        """(persons,) ids of one frame's people. `time_s` is the frame's; one that does not advance is taken as the same moment, and time
        goes on from there."""
        self._seen_s = np.minimum(self._seen_s, time_s)
        self._keep(time_s - self._seen_s <= max(self._memory_s, _PERIODS * self._period_s))
        gap_s = min(time_s - self._last_s, _OUTAGE * max(self._period_s, self._memory_s))
        self._period_s, self._last_s = max(gap_s, _FADES * self._period_s), time_s
        xy = poses.keypoints[..., :2].astype(np.float64)
        ids = np.zeros(len(poses), np.int64)
        if len(poses) and len(self._ids):
            passed = time_s - self._seen_s
            expected = self._xy + self._velocity * np.minimum(passed, _STILL_S)[:, None, None]
            rows, columns = self._match(_similarity(expected, xy, self._size))
            self._follow(rows, xy[columns], expected[rows], passed[rows])
            self._seen_s[rows] = time_s
            ids[columns] = self._ids[rows]
        if (new := ids == 0).any():
            ids[new] = np.arange(self._next, self._next + np.count_nonzero(new))
            self._next += int(np.count_nonzero(new))
            self._begin(ids[new], xy[new], time_s)
        return ids

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if not kept.all():
            self._ids, self._xy, self._velocity = self._ids[kept], self._xy[kept], self._velocity[kept]
            self._size, self._seen_s = self._size[kept], self._seen_s[kept]

    def _begin(self, ids: NDArray[np.int64], xy: Floats, time_s: float) -> None:
        self._ids = np.concatenate([self._ids, ids])
        self._xy = np.concatenate([self._xy, xy])
        self._velocity = np.concatenate([self._velocity, np.zeros((len(ids), 1, 2))])
        self._size = np.concatenate([self._size, body_sizes(xy)])
        self._seen_s = np.concatenate([self._seen_s, np.full(len(ids), time_s)])

    def _follow(self, rows: Indices, xy: Floats, expected: Floats, passed: Floats) -> None:
        """Keypoints that are hidden now move with the body."""
        advanced = passed > 0
        velocity = _median(xy - self._xy[rows]) / np.where(advanced, passed, 1)[:, None, None] - self._velocity[rows]
        self._velocity[rows] += _VELOCITY_GAIN * np.where(advanced[:, None, None] & np.isfinite(velocity), velocity, 0)
        self._xy[rows] = merged = np.where(np.isfinite(xy), xy, expected)
        self._size[rows] += _SIZE_GAIN * (body_sizes(merged) - self._size[rows])


def body_sizes(xy: Floats) -> Floats:
    """(persons,) pixels: square root of the area of the box around each person's keypoints (persons, keypoints, 2), absent ones NaN."""
    span = np.fmax.reduce(xy, 1) - np.fmin.reduce(xy, 1)
    return np.asarray(np.fmax(np.sqrt(span[:, 0] * span[:, 1]), _LEAST_SIZE_PX))


def _similarity(expected: Floats, xy: Floats, sizes: Floats) -> Floats:
    """(tracks, persons) in 0-1."""
    difference = expected[:, None] - xy
    square = np.einsum("tpkc,tpkc->tpk", difference, difference)
    near = 1 / (1 + square / np.square(_NEAR * sizes)[:, None, None])
    common = np.isfinite(near)
    return np.asarray(near.sum(-1, where=common) / np.maximum(common.sum(-1), _TOGETHER))


def _median(moved: Floats) -> Floats:
    """(persons, 1, 2) over the keypoints that are not NaN; NaN where there are none. Sorting puts NaN last."""
    middle = np.maximum(np.isfinite(moved[..., 0]).sum(1) - 1, 0) // 2
    return np.asarray(np.sort(moved, 1)[np.arange(len(moved)), middle][:, None])


def best_pairs(similarity: Floats) -> tuple[Indices, Indices]:
    """(rows, columns) of the pairs, none twice: the most similar first, then any two that are more similar exchanged, in sum, exchange."""
    rows, columns = _everyones_best(similarity)
    if len(set(columns.tolist())) == len(columns):
        return rows, columns
    rows, columns = pairs_best_first(similarity, LEAST_SIMILARITY)
    while len(rows) > 1:
        crossed = similarity[rows[:, None], columns]
        own = crossed.diagonal()
        gain = crossed + crossed.T - own - own[:, None]
        a, b = divmod(int(gain.argmax()), len(rows))
        if gain[a, b] < _LEAST_GAIN:
            break
        columns[[a, b]] = columns[[b, a]]
    near = similarity[rows, columns] >= LEAST_SIMILARITY
    return rows[near], columns[near]


def _everyones_best(similarity: Floats) -> tuple[Indices, Indices]:
    """(rows, columns): each row's best column, which may be another's too."""
    columns = similarity.argmax(1)
    rows = np.flatnonzero(similarity[np.arange(len(columns)), columns] >= LEAST_SIMILARITY)
    return rows, columns[rows]


def pairs_best_first(similarity: Floats, least: float) -> tuple[Indices, Indices]:
    """(rows, columns): the most similar pair of all, then the most similar of what is left, down to `least`."""
    most, width, flat = min(similarity.shape), similarity.shape[1], similarity.ravel()
    rows: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.argsort(-flat, kind="stable")[: np.count_nonzero(flat >= least)].tolist():
        row, column = divmod(place, width)
        if row not in rows and column not in taken:
            rows[row] = column
            taken.add(column)
            if len(rows) == most:
                break
    return np.array(list(rows), np.intp), np.array(list(rows.values()), np.intp)
