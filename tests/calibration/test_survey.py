"""Bad calibration pictures are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepose.calibration.source import CalibrationSet
from edgepose.calibration.statistics import BINS, ActivationStatistics
from edgepose.calibration.survey import check_pictures, outliers
from edgepose.engines.errors import CalibrationError

PICTURES, TENSORS = 20, 6


@pytest.fixture
def pictures() -> CalibrationSet:
    return CalibrationSet(np.zeros((PICTURES, 4, 4, 3), np.uint8), tuple(f"{i}.jpg" for i in range(PICTURES)), "photos", "0" * 64)


@pytest.fixture
def statistics() -> ActivationStatistics:
    high = np.random.default_rng(0).uniform(3, 4, (PICTURES, TENSORS)).astype(np.float32)
    return ActivationStatistics(
        tensors=tuple(f"t{i}" for i in range(TENSORS)),
        low=-high,
        high=high,
        limits=np.full(TENSORS, 4.0),
        counts=np.ones((TENSORS, BINS), np.int64),
        people=np.full(PICTURES, 2),
        scores=np.full(PICTURES, 0.5),
        swapped=np.full(PICTURES, 0.4),
        channels=np.ones(TENSORS, np.int64),
        magnitudes=np.ones(TENSORS),
        means=np.zeros(TENSORS),
        arithmetic="by hand",
    )


def test_ordinary_pictures_pass_without_a_word(statistics: ActivationStatistics, pictures: CalibrationSet) -> None:
    check_pictures(statistics, pictures)
    assert outliers(statistics, pictures) == []


def test_the_one_picture_that_stretches_the_ranges_is_named(statistics: ActivationStatistics, pictures: CalibrationSet) -> None:
    high = statistics.high.copy()
    high[7, :3] = 5 * high[:, :3].max(0)
    (told,) = outliers(replace(statistics, high=high), pictures)
    assert told.startswith("7.jpg alone stretches the ranges of 3 of 6 tensors, one to 5.0 times")


def test_pictures_without_people_and_with_exchanged_colours_are_refused(statistics: ActivationStatistics, pictures: CalibrationSet) -> None:
    people = np.zeros(PICTURES, np.int64)
    people[0] = 1
    with pytest.raises(CalibrationError, match="finds people in 1 of 20 pictures"):
        check_pictures(replace(statistics, people=people), pictures)
    with pytest.raises(CalibrationError, match="blue and red look exchanged"):
        check_pictures(replace(statistics, swapped=np.full(PICTURES, 0.9)), pictures)
