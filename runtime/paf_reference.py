"""Reference of the PAF parser: maps in, people out, in plain NumPy; clear rather than fast.

Peaks: 4-neighbour maxima on the raw grid. Ties are ordered (a cell must exceed its upper and left neighbour and at least equal its lower
and right one), so the plateaus of INT8 maps give one peak. Sub-cell position: per axis the vertex of a parabola through the logarithms
of three cells, exact for a Gaussian. Limbs: the field is read at points between two peaks (Cao et al., Realtime Multi-Person 2D Pose
Estimation using Part Affinity Fields, CVPR 2017, eq. 10) and the pair is kept where enough points agree. Assembly: the edges of all limbs,
best first, are joined as in Kruskal's algorithm, and a join is refused where both sides own the same keypoint.

Hostile maps are defined: NaN and infinite values count as 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import ShapeMismatch
from edgepose.engines.skeleton import Limb, Skeleton
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses, no_poses

Floats = NDArray[np.float64]
LENGTH_COST = 0.006
"""Taken from an edge's weight per cell of length: of two equally good fields the nearer keypoint is the likelier."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A candidate limb between peak `start` of keypoint type limb.start and peak `end` of limb.end."""

    weight: float
    limb: int
    start: int
    end: int


def poses_from_maps(heatmaps: NDArray[np.floating], pafs: NDArray[np.floating], skeleton: Skeleton, parameters: PafParameters) -> Poses:
    """Confidence maps (C, h, w) and PAFs (P, h, w) of one picture -> people, positions in map cells.

    Channels beyond the skeleton's keypoints (the background) are ignored. Raises ShapeMismatch.
    """
    _check_shapes(heatmaps, pafs, skeleton)
    heat, field = _finite(heatmaps[: len(skeleton.keypoints)]), _finite(pafs)
    peaks = [find_peaks(channel, parameters.threshold) for channel in heat]
    edges = [edge for index in range(len(skeleton.limbs)) for edge in _edges(index, peaks, field, skeleton, parameters)]
    people = _assembled(sorted(edges, key=lambda e: -e.weight), skeleton)
    people = [p for p in people if len(p) >= parameters.minimum_keypoints]
    return _poses(people, peaks, len(skeleton.keypoints), parameters.minimum_score)


def find_peaks(heatmap: NDArray[np.floating], threshold: float) -> Floats:
    """(h, w) -> (peaks, 3): x and y in cells, value; row by row."""
    padded = np.pad(heatmap.astype(np.float64), 1, constant_values=-np.inf)
    centre, up, left = padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[1:-1, :-2]
    down, right = padded[2:, 1:-1], padded[1:-1, 2:]
    cells = np.argwhere((centre > threshold) & (centre > up) & (centre > left) & (centre >= down) & (centre >= right))
    return np.array([_refined(heatmap, y, x) for y, x in cells], np.float64).reshape(-1, 3)


def _refined(heatmap: NDArray[np.floating], y: int, x: int) -> tuple[float, float, float]:
    h, w = heatmap.shape
    dx = _vertex(heatmap[y, x - 1], heatmap[y, x], heatmap[y, x + 1]) if 0 < x < w - 1 else 0.0
    dy = _vertex(heatmap[y - 1, x], heatmap[y, x], heatmap[y + 1, x]) if 0 < y < h - 1 else 0.0
    return x + 0.5 + dx, y + 0.5 + dy, float(heatmap[y, x])


def _vertex(before: float, here: float, after: float) -> float:
    """Offset in (-0.5, 0.5) of the parabola's vertex from the middle cell; values below 0.001 have no meaningful logarithm."""
    a, b, c = (float(np.log(max(v, 1e-3))) for v in (before, here, after))
    curvature = a - 2 * b + c
    return 0.0 if curvature > -1e-9 else float(np.clip(0.5 * (a - c) / curvature, -0.5, 0.5))


def _edges(index: int, peaks: list[Floats], field: Floats, skeleton: Skeleton, parameters: PafParameters) -> list[Edge]:
    limb = skeleton.limbs[index]
    start, end = peaks[limb.start], peaks[limb.end]
    if not len(start) or not len(end):
        return []
    along, length = _field_along(limb, start, end, field, parameters.samples)
    mean = along.mean(-1)
    lowest = np.sort(along, -1)[..., :3].mean(-1)
    weight = 0.5 * mean + 0.5 * lowest - LENGTH_COST * length
    kept = ((along > parameters.along).mean(-1) >= parameters.share) & (mean > parameters.along)
    return [Edge(float(weight[i, j]), index, int(i), int(j)) for i, j in np.argwhere(kept)]


def _field_along(limb: Limb, start: Floats, end: Floats, field: Floats, samples: int) -> tuple[Floats, Floats]:
    """Component of the field along each (start, end) pair: (starts, ends, samples), and the pairs' lengths in cells."""
    step = end[None, :, :2] - start[:, None, :2]
    length = np.hypot(step[..., 0], step[..., 1])
    unit = step / np.maximum(length, 1e-6)[..., None]
    t = (np.arange(samples) + 0.5) / samples
    x = start[:, None, None, 0] + step[..., :1] * t
    y = start[:, None, None, 1] + step[..., 1:] * t
    return _bilinear(field[limb.x], x, y) * unit[..., :1] + _bilinear(field[limb.y], x, y) * unit[..., 1:], length


def _bilinear(channel: Floats, x: Floats, y: Floats) -> Floats:
    """Values at positions in cells, edges clamped."""
    h, w = channel.shape
    x, y = np.clip(x - 0.5, 0, w - 1), np.clip(y - 0.5, 0, h - 1)
    x0, y0 = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    x1, y1 = np.minimum(x0 + 1, w - 1), np.minimum(y0 + 1, h - 1)
    fx, fy = x - x0, y - y0
    upper = channel[y0, x0] * (1 - fx) + channel[y0, x1] * fx
    lower = channel[y1, x0] * (1 - fx) + channel[y1, x1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy)


Person = dict[int, int]
"""Keypoint type -> index of its peak."""


def _assembled(edges: list[Edge], skeleton: Skeleton) -> list[Person]:
    """Joins edges, best first. A peak belongs to one person, and takes part in one edge per limb."""
    person_of: dict[tuple[int, int], Person] = {}
    people: list[Person] = []
    taken: set[tuple[int, bool, int]] = set()
    for edge in edges:
        limb = skeleton.limbs[edge.limb]
        ends = {(edge.limb, False, edge.start), (edge.limb, True, edge.end)}
        if ends & taken:
            continue
        first = person_of.get((limb.start, edge.start), {limb.start: edge.start})
        second = person_of.get((limb.end, edge.end), {limb.end: edge.end})
        if first is not second:
            if first.keys() & second.keys():
                continue
            people = [p for p in people if p is not first and p is not second]
            first.update(second)
            people.append(first)
            person_of.update(dict.fromkeys(first.items(), first))
        taken |= ends
    return people


def _poses(people: list[Person], peaks: list[Floats], keypoints: int, minimum_score: float) -> Poses:
    """A person's score is the sum of the keypoints' confidences over the number of keypoints there could be."""
    if not people:
        return no_poses(keypoints)
    table = np.full((len(people), keypoints, 3), (np.nan, np.nan, 0), np.float32)
    for row, person in zip(table, people, strict=True):
        for kind, peak in person.items():
            row[kind] = peaks[kind][peak]
    scores = table[..., 2].sum(-1) / np.float32(keypoints)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= minimum_score]
    return Poses(table[order], scores[order])


def _finite(maps: NDArray[np.floating]) -> Floats:
    return np.nan_to_num(maps.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _check_shapes(heatmaps: NDArray[np.floating], pafs: NDArray[np.floating], skeleton: Skeleton) -> None:
    if heatmaps.ndim != 3 or pafs.ndim != 3 or heatmaps.shape[1:] != pafs.shape[1:]:
        raise ShapeMismatch(f"heatmaps {heatmaps.shape} and PAFs {pafs.shape}: wanted (channels, h, w) with the same h and w")
    if heatmaps.shape[0] < len(skeleton.keypoints) or pafs.shape[0] < skeleton.paf_channels:
        raise ShapeMismatch(
            f"{heatmaps.shape[0]} heatmaps and {pafs.shape[0]} PAF channels: skeleton {skeleton.name!r} wants"
            f" {len(skeleton.keypoints)} and {skeleton.paf_channels}"
        )
