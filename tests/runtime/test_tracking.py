from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from edgepose.engines.skeleton import COCO18
from edgepose.runtime.poses import Poses, no_poses
from edgepose.runtime.tracking import LEAST_SIMILARITY, PoseTracker, best_pairs, body_sizes

KEYPOINTS = len(COCO18.keypoints)
FPS = 30


def person(x: float, y: float = 100.0) -> Poses:
    """One, some 60 pixels in size."""
    keypoints = np.ones((1, KEYPOINTS, 3), np.float32)
    keypoints[0, :, 0] = x + np.linspace(0, 30, KEYPOINTS)
    keypoints[0, :, 1] = y + np.linspace(0, 120, KEYPOINTS)
    return Poses(keypoints, np.ones(1, np.float32))


def both(a: Poses, b: Poses) -> Poses:
    return Poses(np.concatenate([a.keypoints, b.keypoints]), np.concatenate([a.scores, b.scores]))


def test_the_order_of_people_does_not_matter() -> None:
    tracker = PoseTracker(KEYPOINTS)
    assert tracker.update(both(person(0), person(400)), 0).tolist() == [1, 2]
    assert tracker.update(both(person(405), person(5)), 0.1).tolist() == [2, 1]


def test_who_is_hidden_keeps_the_id_and_is_expected_farther_on() -> None:
    tracker = PoseTracker(KEYPOINTS)
    for frame in range(60):
        assert tracker.update(person(4 * frame), frame / FPS).tolist() == [1]
    for frame in range(60, 72):
        assert tracker.update(no_poses(KEYPOINTS), frame / FPS).tolist() == []
    still_here_and_where_it_should_be = both(person(4 * 60 - 40), person(4 * 72))
    assert tracker.update(still_here_and_where_it_should_be, 72 / FPS).tolist() == [2, 1]


def test_who_stays_away_is_forgotten_and_the_id_is_not_given_again() -> None:
    tracker = PoseTracker(KEYPOINTS, memory_s=1)
    tracker.update(person(0), 0)
    assert tracker.update(person(0), 0.9).tolist() == [1]
    assert tracker.update(person(0), 2.8).tolist() == [2]


def test_who_is_seen_every_two_seconds_stays_who_it_is() -> None:
    tracker = PoseTracker(KEYPOINTS)
    ids = [tracker.update(person(0), time_s).tolist() for time_s in range(0, 20, 2)]
    assert ids[2:] == [[2]] * 8, "its pace is known from the second frame on"
    assert tracker.update(person(0), 60).tolist() == [3], "that was no pace, but a gap"


def test_who_is_seen_in_each_frame_stays_who_it_is_though_frames_come_unevenly() -> None:
    """As from an engine with many cameras: after two frames of half a second one that takes three times as long."""
    tracker, times_s = PoseTracker(KEYPOINTS), np.cumsum([0.5, 0.9, 1.5, 0.5, 0.5, 1.4, 0.6, 1.5, 0.5, 1.5])
    assert [tracker.update(person(0), time_s).tolist() for time_s in times_s] == [[1]] * 10


def test_an_outage_does_not_make_people_remembered_for_long() -> None:
    """Of a camera of one frame a second that was away for an hour; who comes a quarter of a minute after somebody left is somebody else."""
    tracker = PoseTracker(KEYPOINTS)
    for time_s in (0, 1, 2, 3602, 3603):
        known = tracker.update(person(0), time_s).tolist()
    for time_s in range(3604, 3620):
        tracker.update(no_poses(KEYPOINTS), time_s)
    assert tracker.update(person(0), 3620).tolist() != known


def test_a_clock_that_stands_or_goes_back_changes_no_id() -> None:
    tracker = PoseTracker(KEYPOINTS)
    assert [tracker.update(person(0), time_s).tolist() for time_s in (1, 1, 0.5, 1.1)] == [[1]] * 4


def test_after_a_clock_that_went_back_people_are_followed_and_forgotten_as_ever() -> None:
    tracker = PoseTracker(KEYPOINTS)
    tracker.update(person(0), 5000)
    for frame in range(20):
        assert tracker.update(person(9 * frame), frame / FPS).tolist() == [1]
    assert tracker.update(no_poses(KEYPOINTS), 1).tolist() == []
    assert tracker.update(person(9 * 20), 2).tolist() == [2]


def test_people_without_a_common_keypoint_are_not_matched() -> None:
    upper, lower = person(0), person(0)
    upper.keypoints[:, 9:] = lower.keypoints[:, :9] = (np.nan, np.nan, 0)
    tracker = PoseTracker(KEYPOINTS)
    assert tracker.update(upper, 0).tolist() == [1]
    assert tracker.update(lower, 0.1).tolist() == [2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=6), st.integers(0, 2**32 - 1))
def test_ids_are_unique_in_a_frame_whatever_comes(counts: list[int], seed: int) -> None:
    rng, tracker = np.random.default_rng(seed), PoseTracker(KEYPOINTS)
    for index, count in enumerate(counts):
        keypoints = rng.uniform(0, 200, (count, KEYPOINTS, 3)).astype(np.float32)
        keypoints[rng.random((count, KEYPOINTS)) < 0.5] = (np.nan, np.nan, 0)
        ids = tracker.update(Poses(keypoints, np.ones(count, np.float32)), index / 10)
        assert len(set(ids.tolist())) == count and (ids > 0).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_pairs_are_near_the_best_there_are(tracks: int, persons: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).random((tracks, persons))
    rows, columns = best_pairs(similarity)
    wanted = similarity[linear_sum_assignment(similarity, maximize=True)].sum()
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows)
    assert (similarity[rows, columns] >= LEAST_SIMILARITY).all()
    assert 0.5 * wanted - tracks * LEAST_SIMILARITY <= similarity[rows, columns].sum() <= wanted + 1e-9


def test_two_pairs_are_exchanged_where_that_is_better_in_sum() -> None:
    rows, columns = best_pairs(np.array([[0.9, 0.8], [0.8, 0.3]]))
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}


def test_a_body_has_a_size_whatever_is_hidden() -> None:
    xy = np.array([[[0, 0], [30, 120], [np.nan, np.nan]], [[5, 5], [np.nan, np.nan], [np.nan, np.nan]], np.full((3, 2), np.nan)])
    assert body_sizes(xy).tolist() == [60, 8, 8]
