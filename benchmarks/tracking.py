"""Ids of synthetic people who cross: how often they are exchanged, by either way of making pairs, and what tracking and smoothing cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.skeleton import COCO18
from edgepose.runtime.poses import Poses
from edgepose.runtime.smoothing import PoseSmoother
from edgepose.runtime.synthetic import SyntheticPeople
from edgepose.runtime.tracking import LEAST_SIMILARITY, PoseTracker, best_pairs

_KEYPOINTS = len(COCO18.keypoints)
_NOISE_PX = 3.0
_HIDDEN_KEYPOINTS = 0.05
_MISSED_PERSONS = 0.03
_WARM_UP = 30
Pairs = Callable[[NDArray[np.float64]], tuple[NDArray[np.intp], NDArray[np.intp]]]


@dataclass(frozen=True, slots=True)
class IdCase:
    """`switches` of each seed's run of `frames`: how often a person has another id than when it was last seen."""

    pairs: str
    persons: int
    fps: float
    frames: int
    switches: tuple[int, ...]

    @property
    def per_thousand_frames(self) -> float:
        return 1000 * sum(self.switches) / (self.frames * len(self.switches))


@dataclass(frozen=True, slots=True)
class CostCase:
    """Wall-clock microseconds a frame, of one thread."""

    persons: int
    tracking_us_p50: float
    tracking_us_p90: float
    smoothing_us_p50: float
    smoothing_us_p90: float


def id_cases(persons: int, fps: float, frames: int, seeds: int, tick: Callable[[], object]) -> list[IdCase]:
    """By our pairs and by the Hungarian method's, on the same people; `tick` after each run."""
    cases = []
    for name, pairs in (("best pairs", best_pairs), ("Hungarian", _hungarian)):
        switches = []
        for seed in range(seeds):
            switches.append(_switches(persons, fps, frames, seed, pairs))
            tick()
        cases.append(IdCase(name, persons, fps, frames, tuple(switches)))
    return cases


def cost_case(persons: int, frames: int = 300) -> CostCase:
    """With everybody seen in every frame."""
    people, tracker, smoother = SyntheticPeople(COCO18, persons), PoseTracker(_KEYPOINTS), PoseSmoother(_KEYPOINTS)
    taken = []
    for frame in range(_WARM_UP + frames):
        poses = people.at(frame / 30)
        began = time.perf_counter_ns()
        told_apart = replace(poses, ids=tracker.update(poses, frame / 30))
        tracked = time.perf_counter_ns()
        smoother.update(told_apart, frame / 30)
        taken.append((tracked - began, time.perf_counter_ns() - tracked))
    (track50, smooth50), (track90, smooth90) = np.percentile(np.array(taken[_WARM_UP:]) / 1e3, [50, 90], axis=0).tolist()
    return CostCase(persons, track50, track90, smooth50, smooth90)


def _switches(persons: int, fps: float, frames: int, seed: int, pairs: Pairs) -> int:
    people, tracker, rng = SyntheticPeople(COCO18, persons, seed=seed), PoseTracker(_KEYPOINTS, match=pairs), np.random.default_rng(seed)
    last: dict[int, int] = {}
    switches = 0
    for frame in range(frames):
        who, poses = _seen(people.at(frame / fps), rng)
        for one, found in zip(who.tolist(), tracker.update(poses, frame / fps).tolist(), strict=True):
            switches += last.get(one, found) != found
            last[one] = found
    return switches


def _seen(poses: Poses, rng: np.random.Generator) -> tuple[NDArray[np.intp], Poses]:
    """What a network makes of them: noise on each keypoint, some hidden, some people missed, in any order."""
    keypoints = poses.keypoints.copy()
    keypoints[..., :2] += rng.normal(0, _NOISE_PX, keypoints[..., :2].shape)
    keypoints[rng.random(keypoints.shape[:2]) < _HIDDEN_KEYPOINTS] = (np.nan, np.nan, 0)
    found = ((keypoints[..., 2] > 0).sum(1) >= 3) & (rng.random(len(poses)) >= _MISSED_PERSONS)
    order = rng.permutation(np.flatnonzero(found))
    return order, Poses(keypoints[order], poses.scores[order])


def _hungarian(similarity: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    near = similarity[rows, columns] >= LEAST_SIMILARITY
    return rows[near], columns[near]
