"""Calibrators on histograms whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepose.calibration.ranges import CALIBRATORS, PERCENTILE, entropy, mean_min_max, min_max, percentile
from edgepose.calibration.statistics import BINS, ActivationStatistics, trimmed_mean


@pytest.fixture
def statistics() -> ActivationStatistics:
    """One tensor: a bell of width 1, and a single value near 100 in the last of ten pictures."""
    limit = 128.0
    centre = (np.arange(BINS) + 0.5) * 2 * limit / BINS - limit
    counts = np.round(1e7 * np.exp(-np.square(centre) / 2)).astype(np.int64)
    counts[np.searchsorted(centre, 100)] += 1
    high = np.full((10, 1), 4.0, np.float32)
    high[-1] = 100
    return ActivationStatistics(
        tensors=("x",),
        low=np.full((10, 1), -4.0, np.float32),
        high=high,
        limits=np.array([limit]),
        counts=counts[None],
        people=np.ones(10, np.int64),
        scores=np.ones(10),
        swapped=np.full(10, np.nan),
        channels=np.array([1]),
        magnitudes=np.array([4.0]),
        means=np.array([0.0]),
        arithmetic="by hand",
    )


def test_min_max_spans_everything_and_the_mean_of_extremes_hardly_moves(statistics: ActivationStatistics) -> None:
    assert min_max(statistics)["x"] == (-4, 100)
    low, high = mean_min_max(statistics)["x"]
    assert low == -4 and high == pytest.approx((9 * 4 + 100) / 10)


def test_a_twentieth_of_the_pictures_may_reach_anything(statistics: ActivationStatistics) -> None:
    """As gratings and lace do in mobilenet_v2_small."""
    usual = np.linspace(3, 5, 38, dtype=np.float32)
    odd = replace(statistics, low=-np.ones((40, 1), np.float32), high=np.append(usual, [200, 250]).astype(np.float32)[:, None])
    assert mean_min_max(odd)["x"] == (-1, pytest.approx(usual[2:].mean(), abs=1e-6))


def test_the_trimmed_mean_is_taken_for_each_value() -> None:
    values = np.tile(np.arange(20.0)[:, None], (1, 2))
    values[3, 0], values[7, 1] = 1e9, -1e9
    np.testing.assert_allclose(trimmed_mean(values), [(sum(range(20)) - 3 - 0) / 18, (sum(range(20)) - 7 - 19) / 18])
    np.testing.assert_array_equal(trimmed_mean(values[:3]), [1, 1])


def test_percentile_and_entropy_let_one_outlier_saturate(statistics: ActivationStatistics) -> None:
    for calibrator in (percentile, entropy):
        low, high = calibrator(statistics)["x"]
        assert -4 <= low < -1 and 1 < high < 10
    assert percentile(statistics, 100.0)["x"] == (-4, 100)
    assert percentile(statistics, 90)["x"][1] < percentile(statistics, PERCENTILE)["x"][1]


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_tensor_that_is_always_zero_has_a_range_all_the_same(name: str, statistics: ActivationStatistics) -> None:
    silent = replace(
        statistics,
        low=np.zeros((10, 1), np.float32),
        high=np.zeros((10, 1), np.float32),
        limits=np.array([2.0**-20]),
        counts=np.bincount([BINS // 2], minlength=BINS)[None],
    )
    low, high = CALIBRATORS[name](silent)["x"]
    assert low <= 0 < high
