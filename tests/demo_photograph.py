"""The person on the photograph that matplotlib carries, labelled by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.benchmarks.demo import PHOTO_HW, prints
from edgepose.engines.skeleton import COCO18, Skeleton
from edgepose.export.distill.augment import mirrored_order
from edgepose.runtime.coco import COCO17_KEYPOINTS, coco17_from
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


def labelled_person(skeleton: Skeleton, matrix: NDArray[np.float64], mirrored: bool) -> Poses:
    """One person, where `matrix` takes the photograph, without the keypoints that nobody labelled."""
    keypoints = np.full((1, len(skeleton.keypoints), 3), (np.nan, np.nan, 0), np.float32)
    for name, (x, y) in KEYPOINTS.items():
        number = skeleton.keypoints.index(name)
        place = matrix @ (WIDTH - x if mirrored else x, y, 1)
        keypoints[0, mirrored_order(skeleton)[number] if mirrored else number] = (*place, 1)
    return Poses(keypoints, np.ones(1, np.float32))


def write_labels(path: Path, file_name: str) -> None:
    """COCO keypoint annotations for the demo's photo.jpg."""
    h, w = PHOTO_HW
    people = [_annotation(each.matrix((HEIGHT, WIDTH), PHOTO_HW), each.mirrored, number) for number, each in enumerate(prints(0.5), 1)]
    image = {"id": 1, "file_name": file_name, "width": w, "height": h}
    category = {"id": 1, "name": "person", "keypoints": list(COCO17_KEYPOINTS), "skeleton": []}
    path.write_text(json.dumps({"images": [image], "annotations": people, "categories": [category]}))


def _annotation(matrix: NDArray[np.float64], mirrored: bool, number: int) -> dict[str, object]:
    keypoints = coco17_from(labelled_person(COCO18, matrix, mirrored), COCO18)[0]
    keypoints[:, 2] *= 2
    zoom, left, top = matrix[0, 0], matrix[0, 2], matrix[1, 2]
    box = {"bbox": [left, top, zoom * WIDTH, zoom * HEIGHT], "area": 0.6 * zoom**2 * WIDTH * HEIGHT}
    label = {"id": number, "image_id": 1, "category_id": 1, "num_keypoints": len(KEYPOINTS), "iscrowd": 0}
    return {**label, **box, "keypoints": keypoints.ravel().tolist()}
