"""COCO keypoint accuracy (AP, AR) of poses on labelled pictures, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import BackendUnavailable, ConfigError
from edgepose.engines.record import read_json
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.coco import coco17_from
from edgepose.runtime.poses import Poses

_NEEDED = ("images", "annotations", "categories")
_PERSON = 1


@dataclass(frozen=True, slots=True)
class CocoAccuracy:
    """COCO's summary over `pictures` with `persons` annotated people; AP and AR are means over OKS 0.50 to 0.95."""

    pictures: int
    persons: int
    found: int
    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float


class CocoLabels:
    """A COCO keypoint annotation file and its pictures' folder. Raises ConfigError, and BackendUnavailable without pycocotools."""

    def __init__(self, annotations: Path, images: Path) -> None:
        data = read_json(annotations)
        if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in _NEEDED):
            raise ConfigError(f"{annotations}: wanted COCO keypoint annotations with {', '.join(_NEEDED)}")
        if not data["annotations"] or not all("keypoints" in a for a in data["annotations"]):
            raise ConfigError(f"{annotations}: its annotations hold no keypoints: wanted a person_keypoints file")
        self._coco = _quiet(_coco_class(), annotations)
        self.pictures: dict[int, Path] = {int(i["id"]): images / str(i["file_name"]) for i in data["images"]}
        """Image id -> file."""
        missing = [path for path in self.pictures.values() if not path.is_file()]
        if missing:
            raise ConfigError(
                f"{images}: {len(missing)} of {len(self.pictures)} pictures of {annotations.name} are not there: {missing[0].name}"
            )

    def accuracy(self, poses: Mapping[int, Poses], skeleton: Skeleton) -> CocoAccuracy:
        """Accuracy on the pictures that `poses` names (image id -> people in picture pixels); keypoints are matched by name."""
        persons = sum(1 for a in self._coco.loadAnns(self._coco.getAnnIds(imgIds=list(poses))) if a["num_keypoints"])
        found = sum(map(len, poses.values()))
        if not found:  # pycocotools refuses an empty list
            return CocoAccuracy(len(poses), persons, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        evaluation = self._evaluated(poses, skeleton)
        _quiet(evaluation.accumulate)
        _quiet(evaluation.summarize)
        ap, ap50, ap75, medium, large, ar = (float(value) for value in evaluation.stats[:6])
        return CocoAccuracy(len(poses), persons, found, ap, ap50, ap75, medium, large, ar)

    def resampled_ap(self, poses: Mapping[int, Poses], skeleton: Skeleton, samples: int = 100) -> NDArray[np.float64]:
        """(samples,) AP on as many pictures drawn from these with replacement; which, depends on their number alone.

        The standard deviation of two engines' difference is the standard error of what one loses against the other: the paired bootstrap
        (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993).
        """
        if not any(map(len, poses.values())):
            return np.zeros(samples)
        evaluation = self._evaluated(poses, skeleton)
        count, size = len(poses), range(len(evaluation.params.areaRng))
        of_picture = np.array(evaluation.evalImgs, object).reshape(len(size), count)
        draw = np.random.default_rng(0).integers(0, count, (samples, count))
        return np.array([_average_precision(evaluation, of_picture[:, drawn]) for drawn in draw])

    def _evaluated(self, poses: Mapping[int, Poses], skeleton: Skeleton) -> Any:
        """pycocotools' matches of people and labels."""
        from pycocotools.cocoeval import COCOeval

        results = [
            {"image_id": image, "category_id": _PERSON, "keypoints": keypoints.ravel().tolist(), "score": float(score)}
            for image, people in poses.items()
            for keypoints, score in zip(_marked(people, skeleton), people.scores, strict=True)
        ]
        evaluation = _quiet(lambda: COCOeval(self._coco, self._coco.loadRes(results), "keypoints"))
        evaluation.params.imgIds = list(poses)
        _quiet(evaluation.evaluate)
        return evaluation


def _average_precision(evaluation: Any, matches: NDArray[np.object_]) -> float:
    """AP of people of all sizes, from (sizes, pictures) matches."""
    evaluation.evalImgs = matches.ravel().tolist()
    _quiet(evaluation.accumulate)
    precision = evaluation.eval["precision"][..., 0, -1]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else 0.0


def _marked(poses: Poses, skeleton: Skeleton) -> Any:
    """(persons, 17, 3) with COCO's visibility mark in the last place."""
    keypoints = coco17_from(poses, skeleton)
    keypoints[..., 2] = keypoints[..., 2] > 0
    return keypoints


def _coco_class() -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise BackendUnavailable("COCO accuracy needs pycocotools: pip install 'edgepose[bench]'") from error
    return COCO


def _quiet(call: Any, *arguments: Any) -> Any:
    """pycocotools reports to stdout, where results belong."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)
