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

from edgepose.calibration.breakdown import Breakdown, breakdown
from edgepose.calibration.coco_file import read_annotations
from edgepose.engines.errors import BackendUnavailable, ConfigError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.coco import coco17_from
from edgepose.runtime.poses import Poses

_RESAMPLED = 100


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
    breakdown: Breakdown


@dataclass(frozen=True, slots=True, eq=False)
class CocoEvaluation:
    """`resampled_ap` is the AP on each of 100 draws of as many pictures with replacement; which, depends on their number alone."""

    accuracy: CocoAccuracy
    resampled_ap: NDArray[np.float64]

    def lost(self, reference: CocoEvaluation) -> float:
        """AP of the reference less this one's."""
        return reference.accuracy.ap - self.accuracy.ap

    def lost_error(self, reference: CocoEvaluation) -> float:
        """The standard error of that, by the paired bootstrap over pictures (B. Efron, R. Tibshirani, "An Introduction to the
        Bootstrap", 1993)."""
        return float(np.std(reference.resampled_ap - self.resampled_ap, ddof=1))


class CocoLabels:
    """A COCO keypoint annotation file and its pictures' folder. Raises ConfigError, and BackendUnavailable without pycocotools."""

    def __init__(self, annotations: Path, images: Path) -> None:
        said = read_annotations(annotations)
        self.pictures: dict[int, Path] = {picture.id: images / picture.file_name for picture in said.pictures}
        """Image id -> file."""
        missing = [path for path in self.pictures.values() if not path.is_file()]
        if missing:
            raise ConfigError(
                f"{images}: {len(missing)} of {len(self.pictures)} pictures of {annotations.name} are not there: {missing[0].name}"
            )
        self._person = said.person.id
        self._coco = _coco_class()()
        self._coco.dataset = {
            "images": [dict(picture) for picture in said.pictures],
            "categories": [dict(said.person)],
            # pycocotools takes label 0 for nobody and the last of two with the same number for both
            "annotations": [{**dict(label), "num_keypoints": label.labelled, "id": number} for number, label in enumerate(said.labels, 1)],
        }
        _quiet(self._coco.createIndex)

    def evaluation(self, poses: Mapping[int, Poses], skeleton: Skeleton) -> CocoEvaluation:
        """Of the pictures that `poses` names (image id -> people in picture pixels); keypoints are matched by name."""
        persons = sum(1 for a in self._coco.loadAnns(self._coco.getAnnIds(imgIds=list(poses))) if a["num_keypoints"])
        found = sum(map(len, poses.values()))
        if not found:  # pycocotools refuses an empty list
            return CocoEvaluation(CocoAccuracy(len(poses), persons, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, Breakdown()), np.zeros(_RESAMPLED))
        matched = self._matched(poses, skeleton)
        _quiet(matched.accumulate)
        _quiet(matched.summarize)
        ap, ap50, ap75, medium, large, ar = (float(value) for value in matched.stats[:6])
        accuracy = CocoAccuracy(len(poses), persons, found, ap, ap50, ap75, medium, large, ar, breakdown(matched))
        return CocoEvaluation(accuracy, _resampled_ap(matched, len(poses)))

    def _matched(self, poses: Mapping[int, Poses], skeleton: Skeleton) -> Any:
        """pycocotools' pairs of people and labels."""
        from pycocotools.cocoeval import COCOeval

        results = [
            {"image_id": image, "category_id": self._person, "keypoints": keypoints.ravel().tolist(), "score": float(score)}
            for image, people in poses.items()
            for keypoints, score in zip(_marked(people, skeleton), people.scores, strict=True)
        ]
        evaluation = _quiet(lambda: COCOeval(self._coco, self._coco.loadRes(results), "keypoints"))
        evaluation.params.imgIds = list(poses)
        _quiet(evaluation.evaluate)
        return evaluation


def _resampled_ap(matched: Any, pictures: int) -> NDArray[np.float64]:
    """AP on as many pictures, drawn with replacement."""
    of_picture = np.array(matched.evalImgs, object).reshape(len(matched.params.areaRng), pictures)
    draws = np.random.default_rng(0).integers(0, pictures, (_RESAMPLED, pictures))
    return np.array([_average_precision(matched, of_picture[:, drawn]) for drawn in draws])


def _average_precision(matched: Any, pairs: NDArray[np.object_]) -> float:
    """AP of people of all sizes, from (sizes, pictures) pairs."""
    matched.evalImgs = pairs.ravel().tolist()
    _quiet(matched.accumulate)
    precision = matched.eval["precision"][..., 0, -1]
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
