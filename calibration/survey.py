"""What is wrong with a set of calibration pictures, told from what the floating-point network saw in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.source import CalibrationSet
from edgepose.calibration.statistics import ActivationStatistics
from edgepose.engines.errors import CalibrationError

SWAPPED_PICTURES = 24
_LEAST_WITH_PEOPLE = 0.1
_SWAPPED_GAIN = 1.2
_OUTLIER_RATIO = 2.0
_OUTLIER_TENSORS = 0.15


def check_pictures(statistics: ActivationStatistics, pictures: CalibrationSet) -> None:
    """Raises CalibrationError where the network hardly finds people, or finds more of them with blue and red exchanged."""
    count, found = len(statistics.people), int(np.count_nonzero(statistics.people))
    asked = np.isfinite(statistics.swapped)
    straight, swapped = float(statistics.scores[asked].sum()), float(statistics.swapped[asked].sum())
    if swapped > _SWAPPED_GAIN * straight and swapped > 1:
        raise CalibrationError(
            f"{pictures.origin}: blue and red look exchanged: on {asked.sum()} pictures the floating-point network reaches a score of"
            f" {swapped:.1f} with the colours exchanged, {straight:.1f} as they are: calibrate on BGR pictures, or correct the contract's"
            " channel order"
        )
    if found < _LEAST_WITH_PEOPLE * count:
        raise CalibrationError(
            f"{pictures.origin}: the floating-point network finds people in {found} of {count} pictures:"
            " calibrate on pictures of people like those the network will see, or correct the contract"
        )


def outliers(statistics: ActivationStatistics, pictures: CalibrationSet) -> list[str]:
    """One sentence a picture that alone stretches the range of many tensors, worst first; ranges that cover everything suffer from it."""
    ratios = magnitude_ratios(statistics)
    stretched = (ratios > _OUTLIER_RATIO).mean(1)
    worst = [int(i) for i in np.argsort(-stretched, kind="stable") if stretched[i] > _OUTLIER_TENSORS]
    return [
        f"{pictures.names[i]} reaches up to {ratios[i].max():.1f} times the usual magnitude, in {stretched[i]:.0%} of the tensors"
        for i in worst[:5]
    ]


def magnitude_ratios(statistics: ActivationStatistics) -> NDArray[np.float64]:
    """(pictures, tensors): a picture's largest magnitude over the 90th percentile of all pictures' largest magnitudes."""
    magnitude = np.maximum(-statistics.low, statistics.high).astype(np.float64)
    return np.asarray(magnitude / np.maximum(np.percentile(magnitude, 90, axis=0), 1e-12))
