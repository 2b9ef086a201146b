"""What is wrong with a set of calibration pictures, told from what the floating-point network saw in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.source import CalibrationSet
from edgepose.calibration.statistics import ActivationStatistics
from edgepose.engines.errors import CalibrationError

SWAPPED_PICTURES = 24
_LEAST_WITH_PEOPLE = 0.1
_SWAPPED_GAIN = 1.1
"""A network of the right order reaches 1.14 (edgepose-s, the least of a hundred draws of 24 pictures) to 1.8 times its score with the
colours exchanged, and never less than that score."""
_OUTLIER_REACH = 1.5
_OUTLIER_TENSORS = 0.05
"""Pictures of people stretch up to 4 % of a network's tensors so far: 200 pictures, human-pose-estimation-0001."""


def check_pictures(statistics: ActivationStatistics, pictures: CalibrationSet) -> None:
    """Raises CalibrationError where the network hardly finds people, or finds more of them with blue and red exchanged."""
    count, found = len(statistics.people), int(np.count_nonzero(statistics.people))
    asked = np.isfinite(statistics.swapped)
    straight, swapped = float(statistics.scores[asked].sum()), float(statistics.swapped[asked].sum())
    if look_exchanged(straight, swapped):
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


def look_exchanged(straight: float, swapped: float) -> bool:
    """From the sums of people's scores on eight pictures or more, as they are and with blue and red exchanged."""
    return swapped > max(1, _SWAPPED_GAIN * straight)


def outliers(statistics: ActivationStatistics, pictures: CalibrationSet) -> list[str]:
    """One sentence a picture that alone stretches the range of several tensors, worst first; `min-max` suffers from it."""
    reach = stretches(statistics)
    stretched = np.count_nonzero(reach > _OUTLIER_REACH, axis=1)
    count = len(statistics.tensors)
    worst = [int(i) for i in np.argsort(-stretched, kind="stable") if stretched[i] > _OUTLIER_TENSORS * count]
    return [
        f"{pictures.names[i]} alone stretches the ranges of {stretched[i]} of {count} tensors, one to {reach[i].max():.1f} times what any"
        " other picture reaches: leave it out, or calibrate with another calibrator than min-max"
        for i in worst[:3]
    ]


def stretches(statistics: ActivationStatistics) -> NDArray[np.float64]:
    """(pictures, tensors): a picture's largest magnitude over the largest of all other pictures; 1 for a picture without others."""
    magnitude = np.maximum(-statistics.low, statistics.high).astype(np.float64)
    if len(magnitude) < 2:
        return np.ones_like(magnitude)
    second, top = np.sort(magnitude, axis=0)[-2:]
    others = np.where(magnitude == top, second, top)
    return np.asarray(magnitude / np.maximum(others, 1e-12))
