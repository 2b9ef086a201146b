"""What is behind an AP: people of which height are found, what a least score keeps, and how near the keypoints are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.runtime.coco import COCO17_KEYPOINTS

_HEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7)
"""Where bands of people's heights begin."""
_SCORES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_NEAR = 0.1
"""Of a box's longer side, by which a middle may lie outside of it."""

Label = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Band:
    """Of the `persons` whose box has at least `least` and less than `most` of their picture's height (1: that too), the share `found` at
    OKS 0.50."""

    least: float
    most: float
    persons: int
    found: float


@dataclass(frozen=True, slots=True)
class AtScore:
    """Of the `found` people with `least_score` or more, `right` are a labelled person's at OKS 0.50, each label's once; the middle of
    `nowhere` is in or near no labelled box. Those on people whose keypoints nobody labelled are not counted."""

    least_score: float
    found: int
    right: int
    nowhere: int


@dataclass(frozen=True, slots=True)
class Nearness:
    """Of a kind of keypoint of people found at OKS 0.50: how many are `labelled`, how many of these are `found`, and the median distance
    of those to the label, in roots of the person's area."""

    keypoint: str
    labelled: int
    found: int
    distance: float | None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Heights at which nobody is labelled are left out."""

    bands: tuple[Band, ...] = ()
    scores: tuple[AtScore, ...] = ()
    keypoints: tuple[Nearness, ...] = ()


def breakdown(matched: Any) -> Breakdown:
    """Of pycocotools' pairs of people and labels (an evaluated COCOeval)."""
    of_all_sizes = matched.evalImgs[: len(matched.params.imgIds)]
    pairs = [pair for pair in of_all_sizes if pair is not None]  # None: nobody found and nobody labelled
    return Breakdown(_bands(matched, pairs), _scores(matched, pairs), _nearness(matched, pairs))


def _bands(matched: Any, pairs: list[Any]) -> tuple[Band, ...]:
    seen = [
        (_height(matched.cocoGt, person), at_half > 0)
        for pair in pairs
        for person, at_half, ignored in zip(pair["gtIds"], pair["gtMatches"][0], pair["gtIgnore"], strict=True)
        if not ignored
    ]
    edges = list(zip(_HEIGHTS, (*_HEIGHTS[1:], float("inf")), strict=True))
    inside = [(least, most, [hit for height, hit in seen if least <= height < most]) for least, most in edges]
    return tuple(Band(least, min(most, 1.0), len(hits), sum(hits) / len(hits)) for least, most, hits in inside if hits)


def _height(labels: Any, person: int) -> float:
    """Of the person's box, in heights of the picture."""
    label = labels.anns[person]
    return float(label["bbox"][3] / labels.imgs[label["image_id"]]["height"])


def _scores(matched: Any, pairs: list[Any]) -> tuple[AtScore, ...]:
    found = np.array(
        [
            (score, at_half > 0, _is_nowhere(matched, person))
            for pair in pairs
            for person, score, at_half, ignored in zip(
                pair["dtIds"], pair["dtScores"], pair["dtMatches"][0], pair["dtIgnore"][0], strict=True
            )
            if not ignored
        ]
    ).reshape(-1, 3)
    kept = [found[found[:, 0] >= least] for least in _SCORES]
    return tuple(AtScore(least, len(people), *(int(n) for n in people[:, 1:].sum(0))) for least, people in zip(_SCORES, kept, strict=True))


def _is_nowhere(matched: Any, person: int) -> bool:
    pose = matched.cocoDt.anns[person]
    x, y = _marked(pose)[:, :2].mean(0)
    labels: Iterable[Label] = matched.cocoGt.imgToAnns[pose["image_id"]]
    return not any(_is_near(x, y, label["bbox"]) for label in labels)


def _is_near(x: float, y: float, box: tuple[float, float, float, float]) -> bool:
    left, top, width, height = box
    room = _NEAR * max(width, height)
    return bool(left - room <= x <= left + width + room and top - room <= y <= top + height + room)


def _nearness(matched: Any, pairs: list[Any]) -> tuple[Nearness, ...]:
    distances: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        for person, label in zip(pair["dtIds"], pair["dtMatches"][0], strict=True):
            if label > 0:
                for kind, distance in _distances(matched.cocoDt.anns[person], matched.cocoGt.anns[int(label)]):
                    distances[kind].append(distance)
    return tuple(_nearness_of(kind, np.array(values)) for kind, values in distances.items())


def _nearness_of(kind: str, distances: NDArray[np.float64]) -> Nearness:
    there = distances[~np.isnan(distances)]
    return Nearness(kind, len(distances), len(there), float(np.median(there)) if len(there) else None)


def _distances(pose: Label, label: Label) -> Iterable[tuple[str, float]]:
    """For each labelled keypoint its kind, and how far it was found: NaN where it was not."""
    found, wanted = _keypoints(pose), _keypoints(label)
    far = np.hypot(*(found - wanted)[:, :2].T) / label["area"] ** 0.5
    far[found[:, 2] <= 0] = np.nan
    for name, distance, mark in zip(COCO17_KEYPOINTS, far, wanted[:, 2], strict=True):
        if mark > 0:
            yield name.rpartition("_")[2], float(distance)


def _marked(person: Label) -> NDArray[np.float64]:
    keypoints = _keypoints(person)
    return keypoints[keypoints[:, 2] > 0]


def _keypoints(person: Label) -> NDArray[np.float64]:
    """(17, 3): x, y and COCO's visibility mark."""
    return np.array(person["keypoints"], np.float64).reshape(-1, 3)
