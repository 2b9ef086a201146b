"""The network that comes with edgepose, on the photograph that matplotlib carries."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from demo_photograph import labelled_person

from edgepose.benchmarks.demo import CLIP_HW, clip, photograph
from edgepose.calibration.oks import oks_matrix
from edgepose.engines.bundle import open_bundle
from edgepose.engines.engine import Engine
from edgepose.engines.registry import open_engine
from edgepose.runtime.default_bundle import default_bundle
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.sources import picture_from_file

SURE = 0.3
"""Least score of a person who counts here."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = open_engine(default_bundle(), "CPU", slots=2)
    yield engine
    engine.close()


def test_it_is_int8_for_any_cpu_and_lost_no_accuracy_by_it() -> None:
    bundle = open_bundle(default_bundle())
    chosen = json.loads((bundle.path / "calibration.json").read_text())["chosen"]
    assert chosen["weight_bits"] == 7  # with 8, products saturate where the CPU has no VNNI
    assert bundle.manifest.target == "ov-int8"
    assert bundle.manifest.accuracy is not None
    assert bundle.manifest.accuracy.ap is not None
    assert bundle.manifest.accuracy.ap_fp32 is not None
    assert bundle.manifest.accuracy.ap >= bundle.manifest.accuracy.ap_fp32 - 0.005
    assert b"data:image/jpeg" not in (bundle.path / "calibration.html").read_bytes()  # nobody's photographs are passed on


def test_it_finds_the_person_on_the_photograph(engine: Engine) -> None:
    found = PoseEstimator(engine).estimate(picture_from_file(photograph())).above(SURE)
    skeleton = engine.contract.skeleton

    assert len(found) == 1
    assert oks_matrix(labelled_person(skeleton), found, skeleton)[0, 0] > 0.5


def test_it_finds_both_people_in_the_clip(engine: Engine) -> None:
    frames = list(clip(picture_from_file(photograph())))
    nose = engine.contract.skeleton.keypoints.index("nose")
    expected = np.array([0.27, 0.74]) * CLIP_HW[1]
    right = 0
    for _, poses in PoseEstimator(engine).estimate_all((frame, None) for frame in frames):
        x = np.sort(poses.above(SURE).keypoints[:, nose, 0])
        right += len(x) == 2 and bool((np.abs(x - expected) < 0.08 * CLIP_HW[1]).all())

    assert right > 0.9 * len(frames)
