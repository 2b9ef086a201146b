"""Results as the pipeline gives them, made by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.inferences import Result, Times
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import Frame

KEYPOINTS = 2


def result(camera: str, index: int, at_s: float = 1_800_000_000.0, people: int = 1) -> CameraResult:
    """`people` with the second keypoint absent; the first is at (index, 7)."""
    keypoints = np.full((people, KEYPOINTS, 3), (np.nan, np.nan, 0), np.float32)
    keypoints[:, 0] = (index, 7, 0.5)
    poses = Poses(keypoints, np.full(people, 0.75, np.float32), np.arange(1, people + 1))
    frame = Frame(np.zeros((4, 6, 3), np.uint8), f"{camera}_{index}", index, None, 1_000_000)
    return CameraResult(camera, Result(0, frame, poses, Times(2_000_000, 3_000_000, 4_000_000, 5_000_000)), at_s)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Waits for what another thread or process brings about."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.005)
