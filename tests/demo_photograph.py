"""The person on the photograph that matplotlib carries, labelled by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.coco import COCO17_KEYPOINTS
from edgepose.runtime.poses import Poses

WIDTH, HEIGHT = 512, 600
KEYPOINTS = {
    "nose": (264, 234),
    "left_eye": (306, 188),
    "right_eye": (222, 191),
    "left_ear": (360, 222),
    "right_ear": (168, 218),
    "left_shoulder": (458, 420),
    "right_shoulder": (88, 417),
    "right_elbow": (46, 588),
}
"""x and y in pixels, as seen by a person; what is outside the picture or under a coat is not there."""


def labelled_person(skeleton: Skeleton) -> Poses:
    """One person, without the keypoints that nobody labelled."""
    keypoints = np.full((1, len(skeleton.keypoints), 3), (np.nan, np.nan, 0), np.float32)
    for name, xy in KEYPOINTS.items():
        keypoints[0, skeleton.keypoints.index(name)] = (*xy, 1)
    return Poses(keypoints, np.ones(1, np.float32))


def write_labels(path: Path, file_name: str) -> None:
    """COCO keypoint annotations for a file that is the photograph."""
    keypoints = [value for name in COCO17_KEYPOINTS for value in ((*KEYPOINTS[name], 2) if name in KEYPOINTS else (0, 0, 0))]
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": keypoints, "num_keypoints": len(KEYPOINTS), "iscrowd": 0}
    image = {"id": 1, "file_name": file_name, "width": WIDTH, "height": HEIGHT}
    category = {"id": 1, "name": "person", "keypoints": list(COCO17_KEYPOINTS), "skeleton": []}
    box = {"bbox": [5, 20, WIDTH - 10, HEIGHT - 20], "area": 0.6 * WIDTH * HEIGHT}
    path.write_text(json.dumps({"images": [image], "annotations": [person | box], "categories": [category]}))
