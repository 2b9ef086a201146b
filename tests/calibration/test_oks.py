from __future__ import annotations

import numpy as np
import pytest
from pycocotools import cocoeval

from edgepose.calibration.oks import _sigmas, agreement, oks_matrix
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.coco import COCO17_KEYPOINTS
from edgepose.runtime.poses import Poses, no_poses


def person(shift: float = 0.0, at: float = 100.0) -> Poses:
    rng = np.random.default_rng(2)
    keypoints = np.concatenate([rng.uniform(0, 200, (1, 18, 2)) + at + shift, np.full((1, 18, 1), 0.9)], -1).astype(np.float32)
    return Poses(keypoints, np.array([0.9], np.float32))


def test_a_person_agrees_fully_with_himself_and_less_the_further_he_moves() -> None:
    values = [oks_matrix(person(), person(d), COCO18)[0, 0] for d in (0, 2, 5, 20, 400)]
    assert values[0] == 1 and values == sorted(values, reverse=True) and values[-1] < 0.01


def test_the_figure_is_cocos() -> None:
    """exp(-d^2 / (2 area (2 sigma)^2)), worked out for one keypoint."""
    keypoints = np.full((1, 18, 3), (np.nan, np.nan, 0), np.float32)
    keypoints[0, 0], keypoints[0, 1] = (0, 0, 1), (100, 100, 1)  # nose, neck
    moved = keypoints.copy()
    moved[0, 0, 0] += 4
    reference, other = (Poses(k, np.ones(1, np.float32)) for k in (keypoints, moved))
    nose = np.exp(-(4**2) / (2 * 0.53 * 100 * 100 * (2 * 0.026) ** 2))
    assert oks_matrix(reference, other, COCO18)[0, 0] == pytest.approx((nose + 1) / 2)


def test_the_sigmas_are_those_of_pycocotools() -> None:
    parameters = cocoeval.Params("keypoints")
    ours = dict(zip(COCO18.keypoints, _sigmas(COCO18), strict=True))
    np.testing.assert_allclose([ours[name] for name in COCO17_KEYPOINTS], parameters.kpt_oks_sigmas)


def test_missed_and_extra_people_are_counted() -> None:
    two = Poses(np.concatenate([person().keypoints, person(at=900).keypoints]), np.ones(2, np.float32))
    found = agreement([two, person()], [person(), two], COCO18)
    assert found.oks == (1.0, 0.0, 1.0) and found.missed == 1 and found.extra == 1
    assert agreement([no_poses(18)], [person()], COCO18).extra == 1
