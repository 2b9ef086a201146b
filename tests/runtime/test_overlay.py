"""Poses drawn over a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepose.engines.skeleton import BUILT_IN_SKELETONS, COCO18, Skeleton
from edgepose.runtime.overlay import draw_poses, draw_poses_in_place, palette
from edgepose.runtime.poses import Poses, no_poses


def _ground(level: int = 127, height: int = 200, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def _poses(skeleton: Skeleton = COCO18, **named_xy: tuple[float, float]) -> Poses:
    keypoints = np.full((1, len(skeleton.keypoints), 3), np.nan, np.float32)
    keypoints[..., 2] = 0
    for name, (x, y) in named_xy.items():
        keypoints[0, skeleton.keypoints.index(name)] = x, y, 0.9
    return Poses(keypoints, np.array([0.87], np.float32))


def _centre_of_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """In our convention: pixel centres at + 0.5."""
    weight = np.abs(after.astype(float) - before).sum(-1)
    rows, columns = np.indices(weight.shape) + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def test_the_picture_given_is_left_alone_and_the_variant_in_place_draws_the_same() -> None:
    before = _ground()
    poses = _poses(neck=(80, 50), nose=(80, 30), right_shoulder=(60, 50))
    after = draw_poses(before, poses, COCO18, scores=True)
    assert (before == 127).all()
    assert (after != before).any()
    draw_poses_in_place(before, poses, COCO18, scores=True)
    np.testing.assert_array_equal(before, after)


def test_nobody_changes_nothing() -> None:
    np.testing.assert_array_equal(draw_poses(_ground(), no_poses(18), COCO18, scores=True), _ground())
    np.testing.assert_array_equal(draw_poses(_ground(), _poses(), COCO18, scores=True), _ground())


@pytest.mark.parametrize("xy", [(80.5, 100.5), (80.0, 100.0), (41.25, 60.75), (0.5, 0.5)])
def test_a_joint_is_drawn_where_the_convention_says(xy: tuple[float, float]) -> None:
    margin = 20
    shifted = draw_poses(_ground(0), _poses(nose=(xy[0] + margin, xy[1] + margin)), COCO18)
    centre = _centre_of_change(_ground(0), shifted) - margin
    np.testing.assert_allclose(centre, xy, atol=0.1)


def test_a_limb_is_drawn_along_the_line_between_its_ends() -> None:
    drawn = draw_poses(_ground(), _poses(right_shoulder=(40.5, 30.5), right_elbow=(120.5, 150.5)), COCO18)
    for share in (0.25, 0.5, 0.75):
        assert (drawn[round(30 + 120 * share), round(40 + 80 * share)] != 127).any()
    assert (drawn[150, 40] == 127).all()


def test_a_limb_with_one_end_missing_is_not_drawn() -> None:
    alone = draw_poses(_ground(), _poses(right_shoulder=(80, 100)), COCO18)
    assert (alone != 127).any(-1).sum() < 60


def test_shoulder_and_ear_are_not_joined() -> None:
    drawn = draw_poses(_ground(), _poses(right_shoulder=(40, 150), right_ear=(40, 50)), COCO18)
    assert (drawn[80:120] == 127).all()


@pytest.mark.parametrize("level", [0, 255], ids=["on dark ground", "on light ground"])
def test_strokes_stand_out(level: int) -> None:
    drawn = draw_poses(_ground(level), _poses(right_shoulder=(20, 100), right_elbow=(140, 100)), COCO18)
    column = drawn[:, 80].astype(int).mean(-1)
    assert column.max() - column.min() > 100


@pytest.mark.parametrize("skeleton", BUILT_IN_SKELETONS, ids=lambda s: s.name)
def test_the_right_side_is_warm_and_the_left_side_cool(skeleton: Skeleton) -> None:
    limbs, joints = palette(skeleton)
    for name, (blue, _, red) in zip(skeleton.keypoints, joints, strict=True):
        if name.startswith("right_"):
            assert red > blue + 60, name
        elif name.startswith("left_"):
            assert blue > red + 20, name
    assert len({colour for _, colour in limbs}) == len(limbs), "every limb has a colour of its own"


def test_strokes_grow_with_the_person() -> None:
    widths = []
    for length in (20, 100, 400):
        ground = _ground(127, 480, 640)
        drawn = draw_poses(ground, _poses(right_shoulder=(100.5, 20), right_elbow=(100.5, 20 + length)), COCO18)
        widths.append(int((drawn[20 + length // 2] != 127).any(-1).sum()))
    assert widths[0] < widths[1] < widths[2] <= 14


def test_the_best_person_is_drawn_last() -> None:
    right, left = _poses(right_elbow=(80, 100)), _poses(left_elbow=(80, 100))
    both = Poses(np.concatenate([right.keypoints, left.keypoints]), np.array([0.9, 0.2], np.float32))
    np.testing.assert_array_equal(draw_poses(_ground(), both, COCO18)[99, 79], palette(COCO18)[1][COCO18.keypoints.index("right_elbow")])


@pytest.mark.parametrize("xy", [(1e9, 50.0), (-1e30, -1e30), (float("inf"), 3.0), (float("nan"), 3.0)])
def test_wild_coordinates_do_no_harm(xy: tuple[float, float]) -> None:
    drawn = draw_poses(_ground(), _poses(neck=(80, 50), nose=xy), COCO18, scores=True)
    assert drawn.shape == _ground().shape


@pytest.mark.parametrize("xy", [(0.0, 0.0), (159.0, 199.0), (80.0, 2.0)])
def test_a_score_stays_inside_the_picture(xy: tuple[float, float]) -> None:
    with_score = draw_poses(_ground(), _poses(nose=xy), COCO18, scores=True)
    written = (with_score != draw_poses(_ground(), _poses(nose=xy), COCO18)).any(-1)
    rows, columns = np.flatnonzero(written.any(1)), np.flatnonzero(written.any(0))
    assert np.ptp(columns) > 15
    assert np.ptp(rows) > 8


def test_the_id_of_a_tracked_person_is_drawn_with_and_without_the_score() -> None:
    plain = _poses(nose=(80.0, 100.0))
    tracked = replace(plain, ids=np.array([12]))
    pictures = [draw_poses(_ground(), poses, COCO18, scores=scores) for poses in (plain, tracked) for scores in (False, True)]
    widths = [np.ptp(np.flatnonzero((picture[:95] != 127).any(-1).any(0))) if (picture[:80] != 127).any() else 0 for picture in pictures]
    assert widths[0] == 0 < widths[2] < widths[1] < widths[3]


def test_a_tiny_picture_can_be_drawn_on() -> None:
    assert draw_poses(_ground(9, 3, 2), _poses(nose=(1, 1), neck=(1, 2)), COCO18, scores=True).shape == (3, 2, 3)


def test_a_picture_that_is_a_view_is_copied_whole() -> None:
    large = _ground(height=400, width=320)
    assert draw_poses(large[::2, ::2], _poses(nose=(80, 100)), COCO18).flags.c_contiguous
    assert (large == 127).all()


def test_poses_of_another_skeleton_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="skeleton of 18 keypoints"):
        draw_poses(_ground(), no_poses(17), COCO18)
