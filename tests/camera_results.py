"""Results of cameras as the daemon's consumers get them, without cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgepose.engines.skeleton import COCO18, Skeleton
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.inferences import Result, Times
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import Frame
from edgepose.runtime.synthetic import SyntheticPeople

EPOCH_S = 1_700_000_000.0


def camera_result(camera: str = "door", index: int = 0, people: int = 1, time_s: float | None = None) -> CameraResult:
    """Synthetic people at `time_s`, by default a tenth of a second a frame."""
    time_s = index / 10 if time_s is None else time_s
    return result_of(SyntheticPeople(COCO18, people, (640, 360)).at(time_s), camera, index, time_s)


def result_of(poses: Poses, camera: str = "door", index: int = 0, time_s: float = 0.0) -> CameraResult:
    frame = Frame(np.zeros((360, 640, 3), np.uint8), f"{camera}_{index:012d}", index, time_s)
    began = frame.captured_ns
    times = Times(began + 1_000_000, began + 2_000_000, began + 9_000_000, began + 10_000_000)
    return CameraResult(camera, Result(0, frame, poses, times), EPOCH_S + time_s)


def poses_of(people: Sequence[dict[str, tuple[float, float]]], skeleton: Skeleton = COCO18, ids: Sequence[int] | None = None) -> Poses:
    """People by keypoint name, in pixels."""
    table = np.full((len(people), len(skeleton.keypoints), 3), (np.nan, np.nan, 0), np.float32)
    for row, person in enumerate(people):
        for name, xy in person.items():
            table[row, skeleton.keypoints.index(name)] = (*xy, 0.9)
    return Poses(table, np.ones(len(people), np.float32), None if ids is None else np.array(ids, np.int64))
