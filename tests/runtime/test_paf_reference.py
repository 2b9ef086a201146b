from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.engines.errors import ShapeMismatch
from edgepose.engines.skeleton import COCO18, Limb, Skeleton
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.paf_reference import find_peaks, poses_from_maps

CHAIN = Skeleton(name="chain", keypoints=("a", "b", "c"), limbs=(Limb(start=0, end=1, x=0, y=1), Limb(start=1, end=2, x=3, y=2)))


def blob(maps: Any, channel: int, x: float, y: float, peak: float = 0.9) -> None:
    rows, columns = np.mgrid[0 : maps.shape[1], 0 : maps.shape[2]] + 0.5
    np.maximum(maps[channel], peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 3), out=maps[channel])


def chain_maps(*people: list[tuple[float, float]]) -> tuple[Any, Any]:
    """Maps of people given by their three points; the field fills the row band of each limb."""
    heat, paf = np.zeros((3, 20, 30), np.float32), np.zeros((4, 20, 30), np.float32)
    for points in people:
        for channel, (x, y) in enumerate(points):
            blob(heat, channel, x, y)
        for limb in CHAIN.limbs:
            a, b = np.array(points[limb.start]), np.array(points[limb.end])
            for t in np.linspace(0, 1, 60):
                x, y = (a + t * (b - a)).astype(int)
                band = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
                paf[limb.x][band], paf[limb.y][band] = (b - a) / np.linalg.norm(b - a)
    return heat, paf


def test_two_people_are_told_apart_and_placed_to_a_fraction_of_a_cell() -> None:
    people = [[(3.3, 4.7), (9.6, 4.7), (15.2, 8.4)], [(3.3, 14.2), (9.1, 13.6), (16.8, 14.9)]]
    poses = poses_from_maps(*chain_maps(*people), CHAIN, PafParameters())
    assert len(poses) == 2
    found = sorted(poses.keypoints[..., :2].tolist(), key=lambda p: p[0][1])
    np.testing.assert_allclose(found, people, atol=0.02)


def test_y_before_x_in_the_channels_is_honoured() -> None:
    heat, paf = chain_maps([(5, 3), (15, 3), (15, 15)])
    assert len(poses_from_maps(heat, paf, CHAIN, PafParameters())) == 1
    swapped = paf[[0, 1, 3, 2]]
    assert len(poses_from_maps(heat, swapped, CHAIN, PafParameters())) == 0


def test_an_absent_keypoint_is_nan_with_confidence_zero() -> None:
    heat, paf = chain_maps([(5, 5), (15, 5), (25, 5)])
    heat[2] = 0
    poses = poses_from_maps(heat, paf, CHAIN, PafParameters(minimum_keypoints=2))
    assert np.isnan(poses.keypoints[0, 2, :2]).all() and poses.keypoints[0, 2, 2] == 0
    assert poses.present.tolist() == [[True, True, False]]


def test_a_plateau_is_one_peak() -> None:
    for rows, columns in ((slice(3, 4), slice(2, 4)), (slice(3, 5), slice(2, 3)), (slice(3, 5), slice(2, 4)), (slice(0, 2), slice(0, 2))):
        heatmap = np.zeros((8, 8), np.float32)
        heatmap[rows, columns] = 0.5
        assert len(find_peaks(heatmap, 0.1)) == 1


def test_rounding_to_256_levels_loses_no_peak() -> None:
    heat, _ = chain_maps([(3.5, 4.0), (9.0, 4.5), (15.0, 9.0)], [(3.0, 14.5), (9.5, 13.5), (16.0, 15.0)])
    rounded = np.round(heat * 255 / 4) * 4 / 255
    for channel, levels in zip(heat, rounded, strict=True):
        assert len(find_peaks(levels.astype(np.float32), 0.1)) == len(find_peaks(channel, 0.1)) == 2


def test_a_peak_at_the_border_stays_inside_the_map() -> None:
    heatmap = np.zeros((6, 6), np.float32)
    heatmap[0, 5] = 1
    np.testing.assert_allclose(find_peaks(heatmap, 0.1), [[5.5, 0.5, 1.0]])


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7).map(lambda s: (18, *s)),
               elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    st.integers(0, 2**31),
)  # fmt: skip
def test_hostile_maps_give_a_defined_result(heat: Any, seed: int) -> None:
    paf = np.random.default_rng(seed).choice([np.nan, np.inf, -np.inf, 0, 1, -1], (38, *heat.shape[1:])).astype(np.float32)
    poses = poses_from_maps(heat, paf, COCO18, PafParameters())
    found = poses.keypoints[poses.present]
    assert np.isfinite(found).all() and np.isfinite(poses.scores).all()
    h, w = heat.shape[1:]
    assert (found[:, 0] >= 0).all() and (found[:, 0] <= w).all() and (found[:, 1] >= 0).all() and (found[:, 1] <= h).all()
    assert (np.diff(poses.scores) <= 0).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_nobody_owns_a_peak_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heat, paf = rng.random((18, 9, 9)).astype(np.float32), rng.uniform(-1, 1, (38, 9, 9)).astype(np.float32)
    poses = poses_from_maps(heat, paf, COCO18, PafParameters(minimum_keypoints=1, share=0.3))
    for kind in range(18):
        owned = [tuple(p[kind]) for p in poses.keypoints if p[kind, 2] > 0]
        assert len(owned) == len(set(owned))


def test_maps_of_another_shape_are_refused() -> None:
    heat, paf = np.zeros((3, 5, 5), np.float32), np.zeros((4, 5, 5), np.float32)
    with pytest.raises(ShapeMismatch, match="same h and w"):
        poses_from_maps(heat, paf[:, :4], CHAIN, PafParameters())
    with pytest.raises(ShapeMismatch, match="at least 3 heatmaps and 4 PAF channels"):
        poses_from_maps(heat, paf[:2], CHAIN, PafParameters())
