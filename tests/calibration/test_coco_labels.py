"""What COCO annotation files are judged on, and what the others are told, before any model runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgepose.calibration.coco import CocoLabels
from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.coco import COCO17_KEYPOINTS
from edgepose.runtime.poses import Poses

Json = dict[str, Any]
XY = np.random.default_rng(0).uniform((60, 40), (140, 200), (17, 2))


@pytest.fixture
def coco(tmp_path: Path) -> Json:
    """One person in one picture, with keys that real files have and nobody here reads."""
    cv2.imwrite(str(tmp_path / "1.png"), np.full((240, 200, 3), 128, np.uint8))
    keypoints = np.concatenate([XY - 0.5, np.full((17, 1), 2)], 1).ravel().tolist()
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "keypoints": keypoints, "segmentation": [[0, 1]]}
    person |= {"bbox": [60, 40, 80, 160], "area": 6400}
    picture = {"id": 1, "file_name": "1.png", "width": 200, "height": 240, "license": 3, "date_captured": "2013-11-14"}
    return {
        "info": {"year": 2017},
        "images": [picture],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
    }


def labels(data: Json, folder: Path) -> CocoLabels:
    (folder / "labels.json").write_text(json.dumps(data))
    return CocoLabels(folder / "labels.json", folder)


def ap(found: CocoLabels) -> float:
    """Of a person found exactly where it is labelled."""
    keypoints = np.full((1, 18, 3), (np.nan, np.nan, 0), np.float32)
    for (x, y), name in zip(XY, COCO17_KEYPOINTS, strict=True):
        keypoints[0, COCO18.keypoints.index(name)] = x, y, 0.8
    return found.evaluation({1: Poses(keypoints, np.ones(1, np.float32))}, COCO18).accuracy.ap


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 0, "name": "person"}],
        [{"id": 1, "name": "dog"}, {"id": 7, "name": "Person"}],
        [{"id": 3, "name": "pedestrian"}],
    ],
    ids=["0", "beside another", "the only one"],
)
def test_people_are_found_whatever_the_number_of_their_category(coco: Json, tmp_path: Path, categories: list[Json]) -> None:
    person = coco["annotations"][0] | {"category_id": categories[-1]["id"]}
    dogs = [{"id": 5, "image_id": 1, "category_id": category["id"], "bbox": [0, 0, 9, 9]} for category in categories[:-1]]
    assert ap(labels(coco | {"categories": categories, "annotations": [*dogs, person]}, tmp_path)) == pytest.approx(1)


def test_a_file_whose_categories_do_not_say_who_is_a_person_is_refused(coco: Json, tmp_path: Path) -> None:
    coco["categories"] = [{"id": 1, "name": "man"}, {"id": 2, "name": "woman"}]
    with pytest.raises(ConfigError, match=r"its categories are man, woman: wanted one that is named 'person'"):
        labels(coco, tmp_path)


@pytest.mark.parametrize("absent", ["iscrowd", "num_keypoints", "id"])
def test_what_can_be_known_without_being_told_may_be_absent(coco: Json, tmp_path: Path, absent: str) -> None:
    del coco["annotations"][0][absent]
    assert ap(labels(coco, tmp_path)) == pytest.approx(1)


def _without(key: str) -> Callable[[Json], None]:
    return lambda entry: entry.__delitem__(key)


def _with(**values: object) -> Callable[[Json], None]:
    return lambda entry: entry.update(values)


@pytest.mark.parametrize(
    ("part", "spoil", "words"),
    [
        ("annotations", _with(image_id=9), "none is on one of its 1 pictures"),
        ("annotations", _with(iscrowd=1), "none is of a single person"),
        ("annotations", _with(keypoints=[0] * 51, num_keypoints=0), "none has a labelled keypoint"),
        ("annotations", _without("keypoints"), "hold no keypoints"),
        ("annotations", _without("area"), r"annotations\[0\]: area: missing"),
        ("annotations", _with(area=0), r"annotations\[0\]: .*area is 0"),
        ("annotations", _without("bbox"), "bbox: missing"),
        ("annotations", _with(keypoints=[1] * 54), "at most 51 items .* not 54"),
        ("annotations", _with(keypoints=None), "keypoints: wanted a list"),
        ("annotations", _with(keypoints=[float("nan")] * 51), "finite number"),
        ("images", _without("file_name"), r"images\[0\]: file_name: missing"),
        ("images", _without("height"), "height: missing"),
        ("images", _with(height=0), "height: .* greater than 0, found 0"),
        ("images", _with(id="1"), "id: .* integer, found '1'"),
    ],
)
def test_a_file_that_labels_nobody_or_only_in_part_is_refused_at_once(
    coco: Json, tmp_path: Path, part: str, spoil: Callable[[Json], None], words: str
) -> None:
    """With nobody to find pycocotools tells an AP of -1, and -1 less -1 holds every gate."""
    spoil(coco[part][0])
    with pytest.raises(ConfigError, match=rf"labels\.json: .*{words}") as caught:
        labels(coco, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "value"), [("annotations", [3]), ("images", [None]), ("categories", ["person"])])
def test_entries_that_are_no_tables_are_refused(coco: Json, tmp_path: Path, part: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{part}\[0\]: the whole value"):
        labels(coco | {part: value}, tmp_path)
