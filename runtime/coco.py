"""COCO's 17 keypoints, and poses in COCO's frame and order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.poses import Poses

COCO17_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)


def coco17_from(poses: Poses, skeleton: Skeleton) -> NDArray[np.float32]:
    """float32 (persons, 17, 3): x, y and confidence, matched by keypoint name; (0, 0, 0) where it was not found or has no counterpart.

    `poses` are in picture pixels. COCO counts a pixel's centre as a whole number where we count it as number + 0.5
    (`edgepose.engines.contract`), so 0.5 is taken off x and y.
    """
    found = np.zeros((len(poses), len(COCO17_KEYPOINTS), 3), np.float32)
    for place, name in enumerate(COCO17_KEYPOINTS):
        if name in skeleton.keypoints:
            found[:, place] = poses.keypoints[:, skeleton.keypoints.index(name)]
    found[..., :2] -= 0.5
    found[found[..., 2] <= 0] = 0
    return found
