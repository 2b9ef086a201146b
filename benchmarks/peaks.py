"""Do quantised confidence maps still show each keypoint once? Cells of INT8 maps tie; this counts what three rules make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.benchmarks.engine import check_alike
from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.errors import ConfigError
from edgepose.engines.registry import open_engine
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.paf_reference import find_peaks
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sources import picture_from_file

Heatmaps = NDArray[np.float32]
Points = NDArray[np.float32]
_NEAR_CELLS = 1.5


@dataclass(frozen=True, slots=True)
class PeakCase:
    """One bundle under one rule: of the reference's `keypoints`, those with no peak within 1.5 cells and those with several, as parts."""

    bundle: str
    rule: str
    keypoints: int
    lost: float
    doubled: float


def peak_cases(bundles: Sequence[Path], pictures: Sequence[Path], device: str) -> list[PeakCase]:
    """The first bundle's peaks, by the parser's rule, are the keypoints that every bundle is asked for.

    Raises ConfigError for bundles of unlike networks and for pictures without a keypoint.
    """
    opened = [open_bundle(path) for path in bundles]
    check_alike(opened)
    maps = [_heatmaps(bundle, pictures, device) for bundle in opened]
    threshold = PafParameters().threshold
    wanted = [[find_peaks(channel, threshold)[:, :2] for channel in picture] for picture in maps[0]]
    if not any(len(points) for picture in wanted for points in picture):
        raise ConfigError(f"{bundles[0]}: finds no keypoint in these pictures: give some with people")
    cases = []
    for path, found in zip(bundles, maps, strict=True):
        for rule, peaks_of in RULES.items():
            counts = [
                _near(points, peaks_of(channel, threshold))
                for asked, picture in zip(wanted, found, strict=True)
                for points, channel in zip(asked, picture, strict=True)
            ]
            near = np.concatenate(counts)
            cases.append(PeakCase(path.name, rule, len(near), float((near == 0).mean()), float((near > 1).mean())))
    return cases


def _strictly_higher(heatmap: NDArray[np.float32], threshold: float) -> Points:
    """Cells above all eight neighbours: a plateau has none."""
    around = np.ones((3, 3), np.uint8)
    around[1, 1] = 0
    return _cells((heatmap > cv2.dilate(heatmap, around)) & (heatmap > threshold))


def _equal_to_maximum(heatmap: NDArray[np.float32], threshold: float) -> Points:
    """Cells that equal the maximum of their neighbourhood, the max-pooling rule: each cell of a plateau is one."""
    return _cells((heatmap == cv2.dilate(heatmap, np.ones((3, 3), np.uint8))) & (heatmap > threshold))


def _parser(heatmap: NDArray[np.float32], threshold: float) -> Points:
    return find_peaks(heatmap, threshold)[:, :2]


RULES: dict[str, Callable[[NDArray[np.float32], float], Points]] = {
    "above all neighbours": _strictly_higher,
    "equal to the maximum": _equal_to_maximum,
    "edgepose: a plateau is one peak": _parser,
}


def _cells(mask: NDArray[np.bool_]) -> Points:
    return np.argwhere(mask)[:, ::-1].astype(np.float32) + np.float32(0.5)


def _near(points: Points, peaks: Points) -> NDArray[np.int64]:
    distances = np.linalg.norm(points[:, None] - peaks[None], axis=2)
    return np.asarray((distances <= _NEAR_CELLS).sum(1))


def _heatmaps(bundle: Bundle, pictures: Sequence[Path], device: str) -> list[Heatmaps]:
    """The keypoints' maps (K, h, w) of each picture."""
    keypoints = len(bundle.contract.skeleton.keypoints)
    found = []
    with closing(open_engine(bundle, device)) as engine:
        slot = engine.slots[0]
        for picture in pictures:
            fit_into(slot.pictures[0], picture_from_file(picture), bundle.contract.input)
            slot.start()
            found.append(slot.wait().heatmaps[0, :keypoints].copy())
    if not found:
        raise ConfigError("no pictures: give some with --images")
    return found
