from __future__ import annotations

import time
from itertools import islice

import cv2
import numpy as np
import pytest

from edgepose.engines.errors import ConfigError, SourceError
from edgepose.engines.skeleton import BUILT_IN_SKELETONS, COCO18, Skeleton
from edgepose.runtime.sources import open_source
from edgepose.runtime.synthetic import Pattern, SyntheticPeople, SyntheticSource

SIZE_WH = (640, 360)


@pytest.mark.parametrize("skeleton", BUILT_IN_SKELETONS, ids=lambda skeleton: skeleton.name)
def test_people_stand_in_the_picture_with_every_keypoint_of_the_body(skeleton: Skeleton) -> None:
    truth = SyntheticPeople(skeleton, 1, SIZE_WH).at(1.5)
    body = [k for k, name in enumerate(skeleton.keypoints) if "toe" not in name and "heel" not in name]
    xy = truth.keypoints[0, body, :2]
    assert truth.present[0, body].all()
    assert (xy > 0).all() and (xy < SIZE_WH).all()


def test_a_picture_shows_each_person_where_it_is_said_to_be() -> None:
    people = SyntheticPeople(COCO18, 1, SIZE_WH, seed=3)
    truth, picture = people.at(2.0), people.picture(2.0)
    saturation = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)[..., 1]
    for x, y in truth.keypoints[0, :, :2]:
        assert saturation[int(y), int(x)] > 100
    assert np.count_nonzero(saturation > 100) < 0.1 * saturation.size


def test_who_stands_in_front_hides_keypoints() -> None:
    people = SyntheticPeople(COCO18, 6, SIZE_WH)
    hidden = [np.count_nonzero(~people.at(frame / 5).present, axis=1) for frame in range(100)]
    assert np.sum(hidden, axis=0)[-1] == 0
    assert np.sum(hidden) > 100


def test_the_same_seed_gives_the_same_people() -> None:
    one, two, other = (SyntheticPeople(COCO18, 2, SIZE_WH, seed).at(7.0).keypoints for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other, equal_nan=True)


def test_people_walk_and_move_their_arms() -> None:
    people = SyntheticPeople(COCO18, 1, SIZE_WH)
    before, after = people.at(0).keypoints[0], people.at(0.3).keypoints[0]
    neck, wrist = (COCO18.keypoints.index(name) for name in ("neck", "right_wrist"))
    walked, waved = (after - before)[neck, :2], (after - before)[wrist, :2]
    assert abs(walked[0]) > 2
    assert np.linalg.norm(waved - walked) > 2


def test_a_uri_opens_a_camera_that_sees_them() -> None:
    source = open_source("test:pattern?people=2&width=640&height=360&fps=10&frames=4&seed=5&pace=free")
    frames = list(source.frames())
    assert source.is_video and source.count == 4 and source.fps == 10
    assert [frame.time_s for frame in frames] == [0, 0.1, 0.2, 0.3]
    np.testing.assert_array_equal(frames[3].picture, SyntheticPeople(COCO18, 2, SIZE_WH, 5).picture(0.3))


def test_a_live_camera_gives_no_frame_before_it_is_due() -> None:
    source = SyntheticSource(Pattern(people=0, width=64, height=48, fps=50))
    began = time.perf_counter_ns()
    for frame in islice(source.frames(), 5):
        assert frame.time_s is not None
        assert frame.captured_ns - began >= 1e9 * frame.time_s - 2e6  # another clock may differ a little


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("test:pattern?poeple=3", ConfigError, "did you mean 'people'"),
        ("test:pattern?fps=0", ConfigError, "fps"),
        ("test:pattern?fps=inf", ConfigError, "fps: .* less than or equal to 1000"),
        ("test:pattern?fps=nan", ConfigError, "fps"),
        ("test:pattern?fps=1e-300", ConfigError, "fps: .* greater than or equal to 0.001"),
        ("test:pattern?width=1000000&height=1000000", ConfigError, "width: .* 7680.* height: .* 7680"),
        ("test:pattern?people=20000000000", ConfigError, "people: .* less than or equal to 1000"),
        ("test:card", SourceError, "wanted test:pattern"),
    ],
)
def test_a_wrong_uri_is_refused(uri: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        open_source(uri)
