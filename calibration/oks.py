"""Object keypoint similarity between two sets of poses, as COCO defines it, and how well two models agree by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.poses import Poses
from edgepose.runtime.tracking import pairs_best_first

# COCO's per-keypoint constants (pycocotools cocoeval, kpt_oks_sigmas); keypoints COCO lacks take the value of their neighbourhood.
_SIGMA = {"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087}
_SIGMA |= {"ankle": 0.089, "neck": 0.079, "head": 0.079, "chest": 0.079, "toe": 0.089, "heel": 0.089}
_OTHER_SIGMA = 0.079
_AREA_OF_BOX = 0.53  # COCO: mean segment area over bounding box area
_LEAST_OKS = 1e-12  # anything at all
_SMALLEST_AREA = 32.0**2  # COCO labels no keypoints on smaller people


@dataclass(frozen=True, slots=True)
class Agreement:
    """`oks` holds one value per person of the reference: that of its best partner, or 0 where it has none."""

    oks: tuple[float, ...]
    missed: int
    extra: int


def oks_matrix(reference: Poses, other: Poses, skeleton: Skeleton) -> NDArray[np.float64]:
    """(persons of reference, persons of other), in 0-1, over the keypoints that the reference has.

    The area is 0.53 of the box around the reference's keypoints, at least 32 x 32 pixels; a keypoint that `other` lacks counts 0.
    """
    if not len(reference) or not len(other):
        return np.zeros((len(reference), len(other)))
    present = reference.present
    square = np.square(reference.keypoints[:, None, :, :2] - other.keypoints[None, :, :, :2]).sum(-1, dtype=np.float64)
    variance = 2 * np.square(2 * _sigmas(skeleton))
    similarity = np.exp(-square / (variance * _areas(reference)[:, None, None]))
    counted = np.where(present[:, None] & other.present[None], similarity, 0.0)
    return np.asarray(counted.sum(-1) / np.maximum(present.sum(-1), 1)[:, None])


def agreement(references: Sequence[Poses], others: Sequence[Poses], skeleton: Skeleton) -> Agreement:
    """Pairs the people of each picture, best OKS first."""
    oks: list[float] = []
    missed = extra = 0
    for reference, other in zip(references, others, strict=True):
        matrix = oks_matrix(reference, other, skeleton)
        rows, columns = pairs_best_first(matrix, _LEAST_OKS)
        best = np.zeros(len(reference))
        best[rows] = matrix[rows, columns]
        oks += best.tolist()
        missed += len(reference) - len(rows)
        extra += len(other) - len(rows)
    return Agreement(tuple(oks), missed, extra)


def _sigmas(skeleton: Skeleton) -> NDArray[np.float64]:
    return np.array([_SIGMA.get(name.rsplit("_", 1)[-1], _OTHER_SIGMA) for name in skeleton.keypoints])


def _areas(poses: Poses) -> NDArray[np.float64]:
    positions = np.where(poses.present[..., None], poses.keypoints[..., :2], np.nan).astype(np.float64)
    size = np.nanmax(positions, 1) - np.nanmin(positions, 1)
    return np.asarray(np.maximum(_AREA_OF_BOX * size.prod(-1), _SMALLEST_AREA))
