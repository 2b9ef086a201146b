from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.runtime.poses import Poses, no_poses
from edgepose.runtime.smoothing import OneEuro, PoseSmoother
from edgepose.runtime.tracking import body_sizes

FPS = 30
SIZE = 200.0
BODY = np.array([[0, 0], [SIZE, SIZE], [60, 90], [150, 40]], np.float64)
WRIST = 3


def poses(xy: NDArray[np.float64], person: int = 1) -> Poses:
    """One person; keypoints at NaN are hidden."""
    confidence = np.isfinite(xy[..., :1])
    return Poses(np.concatenate([xy, confidence], -1, dtype=np.float32)[None], np.ones(1, np.float32), np.array([person]))


def smoothed(track: NDArray[np.float64], parameters: OneEuro | None = None) -> NDArray[np.float64]:
    """(frames, keypoints, 2) of one person."""
    smoother = PoseSmoother(track.shape[1], parameters)
    found = [smoother.update(poses(xy), frame / FPS).keypoints[0, :, :2] for frame, xy in enumerate(track)]
    return np.array(found, np.float64)


@dataclass
class PaperOneEuro:
    """One coordinate, as the paper's appendix writes it."""

    parameters: OneEuro
    x: float = math.nan
    speed: float = 0.0

    def alpha(self, cut_off_hz: float, period_s: float) -> float:
        tau = 1 / (2 * math.pi * cut_off_hz)
        return 1 / (1 + tau / period_s)

    def follow_speed(self, x: float, period_s: float) -> float:
        if math.isfinite(self.x):
            alpha = self.alpha(self.parameters.speed_hz, period_s)
            self.speed = alpha * (x - self.x) / period_s + (1 - alpha) * self.speed
        return self.speed

    def filtered(self, x: float, speed: float, period_s: float) -> float:
        if math.isfinite(self.x):
            alpha = self.alpha(self.parameters.minimum_hz + self.parameters.beta * speed, period_s)
            x = alpha * x + (1 - alpha) * self.x
        self.x = x
        return x


def noisy(frames: int, noise_px: float) -> NDArray[np.float64]:
    return BODY + np.random.default_rng(0).normal(0, noise_px, (frames, *BODY.shape))


def test_it_computes_what_the_paper_says() -> None:
    parameters, track = OneEuro(0.7, 2.0, 1.3), noisy(40, 8)
    filters = [[PaperOneEuro(parameters) for _ in range(2)] for _ in BODY]
    wanted = []
    for xy in track.astype(np.float32).astype(np.float64):
        size = body_sizes(xy[None])[0]
        frame = []
        for point, pair in zip(xy, filters, strict=True):
            speed = math.hypot(*(f.follow_speed(x, 1 / FPS) for f, x in zip(pair, point, strict=True))) / size
            frame.append([f.filtered(x, speed, 1 / FPS) for f, x in zip(pair, point, strict=True)])
        wanted.append(frame)
    np.testing.assert_allclose(smoothed(track, parameters), wanted, atol=1e-3)


def test_a_still_person_trembles_five_times_less() -> None:
    track = noisy(600, 0.01 * SIZE)
    jitter = [np.sqrt(np.square(np.diff(one[60:], axis=0)).mean()) for one in (track, smoothed(track))]
    assert jitter[1] * 5 < jitter[0]


def test_a_fast_wrist_lags_less_than_a_frame() -> None:
    frames = np.arange(300)
    wave = 0.5 * SIZE * np.sin(2 * np.pi * frames / FPS)
    track = noisy(len(frames), 0.01 * SIZE)
    track[:, WRIST, 1] += wave
    found = smoothed(track)[:, WRIST, 1] - BODY[WRIST, 1]
    lags = np.arange(0, 3, 0.05)
    errors = [np.square(found - np.interp(frames - lag, frames, wave))[30:].mean() for lag in lags]
    assert lags[int(np.argmin(errors))] < 1


def test_hidden_keypoints_stay_hidden_and_start_anew() -> None:
    track = np.repeat(BODY[None], 3, 0)
    track[1, WRIST] = np.nan
    track[2] += 50
    found = smoothed(track)
    assert np.isnan(found[1, WRIST]).all()
    np.testing.assert_array_equal(found[2, WRIST], track[2, WRIST])
    assert (found[2, 0] < track[2, 0]).all()


def test_each_person_has_a_filter_and_a_new_one_starts_anew() -> None:
    smoother, here, there = PoseSmoother(len(BODY)), poses(BODY), poses(BODY + 300)
    pair = Poses(np.concatenate([here.keypoints, there.keypoints]), np.ones(2, np.float32), np.array([1, 2]))
    turned = Poses(pair.keypoints[::-1], pair.scores, np.array([2, 1]))
    smoother.update(pair, 0)
    np.testing.assert_array_equal(smoother.update(turned, 0.1).keypoints, turned.keypoints)
    np.testing.assert_array_equal(smoother.update(poses(BODY, 3), 0.2).keypoints, here.keypoints)


def test_who_was_away_for_long_starts_anew() -> None:
    smoother = PoseSmoother(len(BODY), memory_s=1)
    smoother.update(poses(BODY), 0)
    assert len(smoother.update(replace(no_poses(len(BODY)), ids=np.empty(0, np.int64)), 0.5)) == 0
    np.testing.assert_array_equal(smoother.update(poses(BODY + 50), 2).keypoints[0, :, :2], BODY + 50)


def test_a_clock_that_stands_changes_nothing() -> None:
    smoother = PoseSmoother(len(BODY))
    smoother.update(poses(BODY), 1)
    for time_s in (1, 0.5):
        np.testing.assert_array_equal(smoother.update(poses(BODY + 50), time_s).keypoints[0, :, :2], BODY)


def test_people_without_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="track them first"):
        PoseSmoother(len(BODY)).update(replace(poses(BODY), ids=None), 0)


def test_after_a_clock_that_went_back_people_move_again() -> None:
    smoother = PoseSmoother(len(BODY))
    smoother.update(poses(BODY), 5000)
    for frame in range(60):
        found = smoother.update(poses(BODY + 5 * frame), frame / FPS).keypoints[0, 0, 0]
    assert found == pytest.approx(5 * 59, abs=10)
