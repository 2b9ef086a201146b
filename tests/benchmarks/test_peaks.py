"""Ties in confidence maps: each rule on maps that are drawn, then on a network's own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.benchmarks.peaks import RULES, peak_cases
from edgepose.engines.errors import ConfigError


@pytest.mark.parametrize(
    ("top", "found"), [([[0.9]], (1, 1, 1)), ([[0.9, 0.9]], (0, 2, 1)), ([[0.9, 0.9], [0.9, 0.9]], (0, 4, 1)), ([[0.05]], (0, 0, 0))]
)
def test_a_plateau_is_one_peak_for_the_parser_alone(top: list[list[float]], found: tuple[int, ...]) -> None:
    heatmap = np.zeros((8, 9), np.float32)
    heatmap[3 : 3 + len(top), 4 : 4 + len(top[0])] = top
    assert tuple(len(peaks_of(heatmap, 0.07)) for peaks_of in RULES.values()) == found


def test_a_bundle_keeps_its_own_keypoints(painted_bundles: dict[str, Path], painted_pictures: list[Path]) -> None:
    cases = peak_cases([painted_bundles["ov-fp32"]], painted_pictures, "CPU")
    assert [case.rule for case in cases] == list(RULES)
    assert all(case.keypoints > 10 and case.lost == 0 and case.doubled < 0.1 for case in cases)


def test_pictures_without_keypoints_and_bundles_of_other_networks_are_refused(
    painted_bundles: dict[str, Path], tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 128, np.uint8))
    with pytest.raises(ConfigError, match="finds no keypoint"):
        peak_cases([painted_bundles["ov-fp32"]], [tmp_path / "grey.png"], "CPU")
    with pytest.raises(ConfigError, match="sees other pictures"):
        peak_cases([painted_bundles["ov-fp32"], tiny_bundles["ov-fp32"]], [tmp_path / "grey.png"], "CPU")
