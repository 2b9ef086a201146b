"""Reference of the PAF parser: `_native/paf_parser.hpp` says what it does, this says it in plain NumPy; clear rather than fast.

Every number is a float32 made by the same operations in the same order as in C++, so the two agree bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import ShapeMismatch
from edgepose.engines.skeleton import Limb, Skeleton
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses, no_poses

Floats = NDArray[np.float32]
F = np.float32
HUGE, FAINTEST, FLATTEST = F(1e6), F(1e-3), F(1e-6)
NARROWEST = F(0.5)
WEIGHT_SCALE, MOST_WEIGHT = F(2**16), F(3.9)
MOST_FRAGMENTS = 256
Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Edge:
    """A limb between peak `start` of keypoint type limb.start and peak `end` of limb.end."""

    weight: np.float32
    limb: int
    start: int
    end: int


@dataclass(slots=True)
class Person:
    """`peaks`: keypoint type -> index of its peak; `limbs`: the weights of the edges inside."""

    peaks: dict[int, int]
    limbs: list[np.float32] = field(default_factory=list)


def poses_from_maps(heatmaps: NDArray[np.floating], pafs: NDArray[np.floating], skeleton: Skeleton, parameters: PafParameters) -> Poses:
    """Confidence maps (C, h, w) and PAFs (P, h, w) of one picture -> people, positions in map cells. Raises ShapeMismatch."""
    _check_shapes(heatmaps, pafs, skeleton)
    if not heatmaps.shape[1] or not heatmaps.shape[2]:
        return no_poses(len(skeleton.keypoints))
    with np.errstate(all="ignore"):
        maps = heatmaps[: len(skeleton.keypoints)].astype(F)
        peaks = [find_peaks(channel, parameters.threshold, parameters.maximum_peaks) for channel in maps]
        fields = pafs.astype(F)
        edges = [edge for index in range(len(skeleton.limbs)) for edge in _edges(index, peaks, fields, skeleton, parameters)]
        people = _joined(sorted(edges, key=lambda e: -e.weight), skeleton)
        if parameters.reach > 0:
            people = _with_fragments_joined(people, peaks, skeleton, F(parameters.reach))
        return _poses(people, peaks, skeleton, parameters)


# -- keypoints


def find_peaks(heatmap: NDArray[np.floating], threshold: float, most: int = 1024) -> Floats:
    """(h, w) -> (peaks, 3): x and y in cells, value; in reading order, the `most` strongest."""
    seen: set[Cell] = set()
    found = []
    for cell in map(tuple, np.argwhere((heatmap > F(threshold)) & (heatmap <= HUGE))):
        if cell not in seen:
            plateau, top = _plateau(heatmap, cell)
            seen |= plateau
            if top:
                found.append((*_refined(heatmap, cell, plateau), heatmap[cell]))
    peaks = np.array(found, F).reshape(-1, 3)
    strongest = np.sort(np.argsort(-peaks[:, 2], kind="stable")[:most])
    return np.asarray(peaks[strongest])


def _plateau(heatmap: NDArray[np.floating], cell: Cell) -> tuple[set[Cell], bool]:
    """The cells of equal value that hang together with `cell`, corners included, and whether no cell beside them is higher."""
    plateau, queue, top = {cell}, [cell], True
    for y, x in queue:
        for n in ((i, j) for i in range(y - 1, y + 2) for j in range(x - 1, x + 2)):
            if 0 <= n[0] < heatmap.shape[0] and 0 <= n[1] < heatmap.shape[1]:
                if heatmap[n] == heatmap[cell] and n not in plateau:
                    plateau.add(n)
                    queue.append(n)
                top &= not heatmap[n] > heatmap[cell]
    return plateau, top


def _refined(heatmap: NDArray[np.floating], cell: Cell, plateau: set[Cell]) -> tuple[np.float32, np.float32]:
    """x and y: a parabola's vertex on each axis, or the middle of a plateau of more than two cells."""
    y, x = cell
    if len(plateau) > 2:
        return F(sum(j for _, j in plateau) / len(plateau)) + F(0.5), F(sum(i for i, _ in plateau) / len(plateau)) + F(0.5)
    here = _logarithm(heatmap[cell])
    left, right, up, down = (_log_beside(heatmap, *n) for n in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)))
    across = F(0) if left is None or right is None else (here - left) + (here - right)
    along = F(0) if up is None or down is None else (here - up) + (here - down)
    return F(x) + F(0.5) + _vertex(left, here, right, across, along), F(y) + F(0.5) + _vertex(up, here, down, along, across)


def _vertex(before: F | None, here: F, after: F | None, curvature: F, other: F) -> F:
    """Offset from the middle cell, at most half a cell; beside the border the other axis lends its curvature."""
    if before is not None and after is not None:
        return _within_cell(F(0.5) * (after - before) / curvature) if curvature > FLATTEST else F(0)
    if not other > FLATTEST:
        return F(0)
    if after is not None:
        return _within_cell(F(0.5) - (here - after) / other)
    return F(0) - _within_cell(F(0.5) - (here - before) / other) if before is not None else F(0)


def _within_cell(offset: F) -> F:
    return max(min(offset, F(0.5)), F(-0.5))


def _log_beside(heatmap: NDArray[np.floating], y: int, x: int) -> F | None:
    inside = 0 <= y < heatmap.shape[0] and 0 <= x < heatmap.shape[1]
    return _logarithm(heatmap[y, x]) if inside else None


def _logarithm(value: F) -> F:
    """Cephes' logf, as the native kernel computes it."""
    value = F(value) if value > FAINTEST else FAINTEST
    root = np.int32(0x3F3504F3)  # sqrt(1/2)
    shifted = value.view(np.int32) - root
    exponent = F(shifted >> 23)
    f = ((shifted & np.int32(0x007FFFFF)) + root).view(F) - F(1)
    p = F(7.0376836292e-2)
    for c in (
        *(-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
        *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    ):
        p = p * f + F(c)
    square = f * f
    return F((f + (p * f * square - F(0.5) * square)) + F(0.6931471806) * exponent)


# -- limbs


def _edges(index: int, peaks: list[Floats], fields: Floats, skeleton: Skeleton, p: PafParameters) -> list[Edge]:
    """The pairs of one limb's keypoints whose field is that of a limb, by start and end."""
    limb = skeleton.limbs[index]
    start, end = peaks[limb.start], peaks[limb.end]
    if not len(start) or not len(end):
        return []
    x, y = start[:, None, 0], start[:, None, 1]
    dx, dy = end[None, :, 0] - x, end[None, :, 1] - y
    square = dx * dx + dy * dy
    kept = _points_along(fields, limb, start, end, dx, dy, square, F(p.along)) | (square <= F(p.near) * F(p.near))
    length = np.sqrt(square)
    per_cell = F(1) / np.maximum(length, FLATTEST)
    unit_x, unit_y = dx * per_cell, dy * per_cell
    coarse = [p.samples // 4, p.samples - 1 - p.samples // 4] if p.samples >= 4 else []
    total = np.zeros_like(dx)
    agree = np.zeros(dx.shape, np.int64)
    for number, k in enumerate([*coarse, *(k for k in range(p.samples) if k not in coarse)]):
        t = (F(k) + F(0.5)) / F(p.samples)
        fx, fy = _field_at(fields, limb, x + dx * t, y + dy * t)
        sample = fx * unit_x + fy * unit_y
        total = total + sample
        agree += sample > F(p.along)
        if number + 1 == len(coarse):
            kept &= agree > 0
    weight = total / F(p.samples) - F(p.length_cost) * length
    kept &= (agree >= np.ceil(p.share * p.samples - 1e-6)) & (weight > 0)
    weight = np.floor(np.minimum(weight, MOST_WEIGHT) * WEIGHT_SCALE) / WEIGHT_SCALE
    return [Edge(weight[i, j], index, int(i), int(j)) for i, j in np.argwhere(kept)]


def _points_along(
    fields: Floats, limb: Limb, start: Floats, end: Floats, dx: Floats, dy: Floats, square: Floats, along: F
) -> NDArray[np.bool_]:
    """Whether the field at both ends of each pair has enough of a component along it."""
    agree = np.ones(dx.shape, np.bool_)
    for ends, axis in ((start, 1), (end, 0)):
        fx, fy = (np.expand_dims(component, axis) for component in _field_at(fields, limb, ends[:, 0], ends[:, 1]))
        component = fx * dx + fy * dy
        least = np.maximum(NARROWEST * (fx * fx + fy * fy), along * along)
        agree &= (component > 0) & (component * component > least * square)
    return agree


def _field_at(fields: Floats, limb: Limb, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return _bilinear(fields[limb.x], x, y), _bilinear(fields[limb.y], x, y)


def _bilinear(channel: Floats, x: Floats, y: Floats) -> Floats:
    """Values at positions in cells, edges clamped; what is no measurement counts as 0."""
    channel = np.pad(channel, [(0, max(2 - n, 0)) for n in channel.shape], mode="edge")
    h, w = channel.shape
    column, line = np.clip(x - F(0.5), F(0), F(w - 1)), np.clip(y - F(0.5), F(0), F(h - 1))
    j, i = np.minimum(column.astype(np.intp), w - 2), np.minimum(line.astype(np.intp), h - 2)
    u, v = column - j.astype(F), line - i.astype(F)
    upper = channel[i, j] + (channel[i, j + 1] - channel[i, j]) * u
    lower = channel[i + 1, j] + (channel[i + 1, j + 1] - channel[i + 1, j]) * u
    value = upper + (lower - upper) * v
    return np.where(np.abs(value) <= HUGE, value, F(0))


# -- people


def _joined(edges: list[Edge], skeleton: Skeleton) -> list[Person]:
    """Joins edges, best first, unless both sides own a keypoint of the same type. Fragments come in the order of their best limbs."""
    person_of: dict[tuple[int, int], Person] = {}
    inside: list[tuple[Edge, tuple[int, int]]] = []
    for edge in edges:
        limb = skeleton.limbs[edge.limb]
        a, b = (limb.start, edge.start), (limb.end, edge.end)
        first = person_of.get(a, Person({limb.start: edge.start}))
        second = person_of.get(b, Person({limb.end: edge.end}))
        if first is not second:
            if first.peaks.keys() & second.peaks.keys():
                continue
            first.peaks.update(second.peaks)
            person_of.update(dict.fromkeys(first.peaks.items(), first))
        inside.append((edge, a))
    people: dict[int, Person] = {}
    for edge, a in inside:
        person = people.setdefault(id(person_of[a]), person_of[a])
        person.limbs.append(edge.weight)
    return list(people.values())


def _with_fragments_joined(people: list[Person], peaks: list[Floats], skeleton: Skeleton, reach: F) -> list[Person]:
    """Joins groups that one keypoint, which both lack, would link, if the gap is not too long for their size; smallest ratio first."""
    linked: list[set[int]] = [set() for _ in skeleton.keypoints]
    for limb in skeleton.limbs:
        linked[limb.start].add(limb.end)
        linked[limb.end].add(limb.start)
    fragments = people[:MOST_FRAGMENTS]
    lacking = [set().union(*(linked[k] for k in f.peaks)) - f.peaks.keys() for f in fragments]
    extents = [max(_distances(f, set(f.peaks), f, set(f.peaks), peaks)) for f in fragments]
    gaps = []
    for b in range(len(fragments)):
        for a in range(b):
            if fragments[a].peaks.keys() & fragments[b].peaks.keys() or not extents[a] + extents[b] > 0:
                continue
            first, second = fragments[a], fragments[b]
            distances = [
                distance
                for hidden in lacking[a] & lacking[b]
                for distance in _distances(first, linked[hidden] & first.peaks.keys(), second, linked[hidden] & second.peaks.keys(), peaks)
            ]
            if distances and (ratio := min(distances) / (extents[a] + extents[b])) <= reach:
                gaps.append((ratio, a, b))
    group = list(range(len(fragments)))
    for _, one, other in sorted(gaps):
        a, b = _root(group, one), _root(group, other)
        if a != b and not fragments[a].peaks.keys() & fragments[b].peaks.keys():
            fragments[a].peaks.update(fragments[b].peaks)
            fragments[a].limbs += fragments[b].limbs
            group[b] = a
    return [f for k, f in enumerate(fragments) if group[k] == k] + people[MOST_FRAGMENTS:]


def _root(group: list[int], k: int) -> int:
    while group[k] != k:
        k = group[k]
    return k


def _distances(a: Person, a_types: set[int], b: Person, b_types: set[int], peaks: list[Floats]) -> list[np.float32]:
    pairs = [(peaks[i][a.peaks[i]], peaks[j][b.peaks[j]]) for i in a_types for j in b_types]
    return [np.sqrt((q[0] - p[0]) * (q[0] - p[0]) + (q[1] - p[1]) * (q[1] - p[1])) for p, q in pairs]


def _poses(people: list[Person], peaks: list[Floats], skeleton: Skeleton, parameters: PafParameters) -> Poses:
    """A person's score is the sum of the squares of its confidences and limb weights over the number of both that there could be."""
    least = min(parameters.minimum_keypoints, len(skeleton.keypoints))
    people = [p for p in people if len(p.peaks) >= least]
    if not people:
        return no_poses(len(skeleton.keypoints))
    table = np.full((len(people), len(skeleton.keypoints), 3), (np.nan, np.nan, 0), F)
    scores = np.zeros(len(people), F)
    for k, person in enumerate(people):
        for kind in sorted(person.peaks):
            table[k, kind] = peaks[kind][person.peaks[kind]]
            scores[k] += table[k, kind, 2] * table[k, kind, 2]
        for weight in sorted(person.limbs, reverse=True):
            scores[k] += weight * weight
        scores[k] /= F(len(skeleton.keypoints) + len(skeleton.limbs))
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= F(parameters.minimum_score)][: parameters.maximum_persons]
    return Poses(table[order], scores[order])


def _check_shapes(heatmaps: NDArray[np.floating], pafs: NDArray[np.floating], skeleton: Skeleton) -> None:
    keypoints, channels = len(skeleton.keypoints), skeleton.paf_channels
    if heatmaps.ndim != 3 or pafs.ndim != 3 or heatmaps.shape[1:] != pafs.shape[1:] or len(heatmaps) < keypoints or len(pafs) < channels:
        raise ShapeMismatch(
            f"heatmaps {heatmaps.shape} and PAFs {pafs.shape}: wanted (channels, h, w) with the same h and w, at least {keypoints} heatmaps"
            f" and {channels} PAF channels"
        )
