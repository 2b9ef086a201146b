"""The network that comes with edgepose, on the photograph that matplotlib carries."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from demo_photograph import labelled_person

from edgepose.benchmarks.demo import CLIP_FRAMES, CLIP_HW, PHOTO_HW, frame, photograph, prints
from edgepose.calibration.oks import oks_matrix
from edgepose.engines.bundle import open_bundle
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.engine import Engine
from edgepose.engines.registry import open_engine
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.sources import picture_from_file

SURE = 0.1
"""Least score of a person who counts, as for pose-run."""


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


def test_it_finds_both_people_on_the_photograph(engine: Engine) -> None:
    photo, skeleton = picture_from_file(photograph()), engine.contract.skeleton
    found = PoseEstimator(engine).estimate(frame(photo, PHOTO_HW, 0.5)).above(SURE)
    left, right = (labelled_person(skeleton, each.matrix(photo.shape[:2], PHOTO_HW), each.mirrored) for each in prints(0.5))

    assert len(found) == 2
    assert oks_matrix(left, found, skeleton).max() > 0.6
    assert oks_matrix(right, found, skeleton).max() > 0.6


def test_it_finds_both_people_in_the_clip(engine: Engine) -> None:
    photo, skeleton = picture_from_file(photograph()), engine.contract.skeleton
    turns = [number / CLIP_FRAMES for number in range(CLIP_FRAMES)]
    right = 0
    for turn, found in PoseEstimator(engine).estimate_all((frame(photo, CLIP_HW, turn), turn) for turn in turns):
        poses = found.above(SURE)
        wanted = [labelled_person(skeleton, each.matrix(photo.shape[:2], CLIP_HW), each.mirrored) for each in prints(turn)]
        right += len(poses) == 2 and all(oks_matrix(person, poses, skeleton).max() > 0.5 for person in wanted)

    assert right > 0.9 * CLIP_FRAMES
