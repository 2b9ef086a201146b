"""Calibrators: from histograms of activations to the range that INT8 spans, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.statistics import BINS, ActivationStatistics, trimmed_mean

Range = tuple[float, float]
Ranges = dict[str, Range]
"""Tensor -> (lowest, highest) value that INT8 represents; what lies outside saturates. Lowest <= 0 <= highest."""
PERCENTILE = 99.999
PERCENTILES = (99.9, 99.99, 99.999, 100.0)
"""What the pose calibrator tries; 100 is the whole range."""
_HALF = BINS // 2
_LEVELS = 128
_ENTROPY_STEP = 16


def min_max(statistics: ActivationStatistics) -> Ranges:
    """Everything that was seen."""
    return _ranges(statistics, lambda _: _HALF)


def mean_min_max(statistics: ActivationStatistics) -> Ranges:
    """The trimmed mean of the pictures' extremes: odd pictures do not move it, and what saturates is each picture's rare peak."""
    lows, highs = np.minimum(trimmed_mean(statistics.low), 0), np.maximum(trimmed_mean(statistics.high), 0)
    return {name: _span(float(low), float(high)) for name, low, high in zip(statistics.tensors, lows, highs, strict=True)}


def percentile(statistics: ActivationStatistics, percent: float = PERCENTILE) -> Ranges:
    """The smallest magnitude that covers `percent` of a tensor's values."""
    return _ranges(statistics, lambda folded: _percentile_bin(folded, percent))


def entropy(statistics: ActivationStatistics) -> Ranges:
    """The magnitude that loses least information (Kullback-Leibler divergence) on 128 levels.

    After S. Migacz, "8-bit Inference with TensorRT" (GTC 2017); the bin of zero, which ReLU fills, takes its neighbour's count.
    """
    return _ranges(statistics, _entropy_bin)


CALIBRATORS = MappingProxyType({"mean-min-max": mean_min_max, "min-max": min_max, "percentile": percentile, "entropy": entropy})
"""By the name a user gives; the pose calibrator, which needs a network to try them on, is `edgepose.calibration.search`."""


class Levels(Enum):
    """How a range becomes 8 bits. SIGNED: INT8 around zero, all that TensorRT knows. SHIFTED: the same values as UINT8 with a zero point
    of 128. ASYMMETRIC: UINT8 from lowest to highest."""

    SIGNED = "signed"
    SHIFTED = "shifted"
    ASYMMETRIC = "asymmetric"


def step(limits: Range, levels: Levels) -> float:
    """What one level is worth."""
    low, high = limits
    return (high - low) / 255 if levels is Levels.ASYMMETRIC else max(-low, high) / 127


def zero_point(limits: Range, levels: Levels) -> int:
    """The level that means zero."""
    if levels is Levels.ASYMMETRIC:
        return round(-limits[0] / step(limits, levels))
    return 128 if levels is Levels.SHIFTED else 0


def _ranges(statistics: ActivationStatistics, choose: Callable[[NDArray[np.int64]], int]) -> Ranges:
    """`choose` gives how many bins of the folded histogram are kept."""
    lows, highs = np.minimum(statistics.low.min(0), 0), np.maximum(statistics.high.max(0), 0)
    found: Ranges = {}
    for index, name in enumerate(statistics.tensors):
        counts = statistics.counts[index]
        folded = counts[_HALF:] + counts[:_HALF][::-1]
        magnitude = choose(folded) * float(statistics.limits[index]) / _HALF
        low, high = max(float(lows[index]), -magnitude), min(float(highs[index]), magnitude)
        found[name] = _span(low, high)
    return found


def _span(low: float, high: float) -> Range:
    """A tensor that is always zero needs a range all the same."""
    return (low, high) if high > low else (0.0, 1.0)


def _percentile_bin(folded: NDArray[np.int64], percent: float) -> int:
    """How many bins cover it; all of them for 100, since the histogram holds a sample only."""
    if percent >= 100:
        return _HALF
    covered = np.cumsum(folded)
    return int(np.searchsorted(covered, covered[-1] * percent / 100)) + 1


def _entropy_bin(folded: NDArray[np.int64]) -> int:
    counts = folded.astype(np.float64)
    counts[0] = counts[1]
    if not counts.any():
        return 1
    used = int(np.flatnonzero(counts)[-1]) + 1
    candidates = range(min(_LEVELS, used), used + _ENTROPY_STEP, _ENTROPY_STEP)
    return min(min(candidates, key=lambda bins: (_divergence(counts, min(bins, used)), -bins)), used)


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """KL divergence of the first `bins` bins, the rest saturated into the last, from the same on 128 levels."""
    clipped = counts[:bins].copy()
    clipped[-1] += counts[bins:].sum()
    kept = counts[:bins]
    level = np.arange(bins) * _LEVELS // bins
    occupied = kept > 0
    share = np.bincount(level, kept, _LEVELS) / np.maximum(np.bincount(level, occupied, _LEVELS), 1)
    quantised = np.where(occupied, share[level], 0)
    p, q = clipped / clipped.sum(), quantised / max(quantised.sum(), 1e-300)
    both = p > 0
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))))
