"""COCO accuracy and agreement: figures that are known, then a real network on real pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgepose.benchmarks.accuracy import bundle_agreement, coco_accuracy
from edgepose.benchmarks.cli import app
from edgepose.calibration.breakdown import AtScore, Band
from edgepose.calibration.coco import CocoAccuracy, CocoLabels
from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18
from edgepose.export.exporter import Export
from edgepose.runtime.coco import COCO17_KEYPOINTS
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses, no_poses


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path, np.ndarray[Any, Any]]:
    """Annotations of one person in one grey picture, the folder, and the person's keypoints in our frame."""
    rng = np.random.default_rng(0)
    xy = rng.uniform((60, 40), (140, 200), (17, 2))
    cv2.imwrite(str(tmp_path / "1.png"), np.full((240, 200, 3), 128, np.uint8))
    keypoints = np.concatenate([xy - 0.5, np.full((17, 1), 2)], 1)  # COCO's pixel centres are whole numbers
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "keypoints": keypoints.ravel().tolist()}
    annotation |= {"bbox": [60, 40, 80, 160], "area": 80 * 160 * 0.5}
    data = {"images": [{"id": 1, "file_name": "1.png", "width": 200, "height": 240}], "annotations": [annotation]}
    data["categories"] = [{"id": 1, "name": "person", "keypoints": list(COCO17_KEYPOINTS), "skeleton": []}]
    (tmp_path / "labels.json").write_text(json.dumps(data))
    return tmp_path / "labels.json", tmp_path, xy


def person(xy: np.ndarray[Any, Any], score: float = 1) -> Poses:
    keypoints = np.full((1, 18, 3), (np.nan, np.nan, 0), np.float32)
    for (x, y), name in zip(xy, COCO17_KEYPOINTS, strict=True):
        keypoints[0, COCO18.keypoints.index(name)] = x, y, 0.8
    return Poses(keypoints, np.array([score], np.float32))


def accuracy(labels: CocoLabels, people: Poses) -> CocoAccuracy:
    return labels.evaluation({1: people}, COCO18).accuracy


def test_a_person_at_its_labels_has_ap_1_and_one_elsewhere_0(labelled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, folder, xy = labelled
    labels = CocoLabels(annotations, folder)
    right = accuracy(labels, person(xy))
    assert (right.ap, right.ap50, right.ar) == pytest.approx((1, 1, 1))
    assert (right.pictures, right.persons, right.found) == (1, 1, 1)
    assert right.breakdown.bands == (Band(0.5, 0.7, 1, 1.0),)
    assert accuracy(labels, person(xy + 300)).ap == 0
    assert accuracy(labels, person(xy + 300)).breakdown.bands == (Band(0.5, 0.7, 1, 0.0),)
    assert 0 < accuracy(labels, person(xy + 4)).ap < 1
    assert accuracy(labels, no_poses(18)).ap == 0
    assert capsys.readouterr().out == "", "pycocotools must not write where results belong"


def test_a_breakdown_says_who_is_right_who_is_nowhere_and_how_near_keypoints_are(labelled: Any) -> None:
    """One person 4 pixels beside the label, without its right wrist; a second body on it; one where nobody is."""
    annotations, folder, xy = labelled
    near, double, far = person(xy + (4, 0), 0.45), person(xy + (7, 0), 0.3), person(xy + (-160, 0), 0.1)
    near.keypoints[0, COCO18.keypoints.index("right_wrist")] = np.nan, np.nan, 0
    people = Poses(np.concatenate([p.keypoints for p in (near, double, far)]), np.concatenate([p.scores for p in (near, double, far)]))
    found = accuracy(CocoLabels(annotations, folder), people).breakdown
    counts = {at.least_score: (at.found, at.right, at.nowhere) for at in found.scores}
    assert counts == {0: (3, 1, 1), 0.05: (3, 1, 1), 0.1: (3, 1, 1), 0.15: (2, 1, 0), 0.2: (2, 1, 0), 0.3: (2, 1, 0)} | {
        0.4: (1, 1, 0),
        0.5: (0, 0, 0),
    }
    root = (80 * 160 * 0.5) ** 0.5
    kinds = {kind.keypoint: (kind.labelled, kind.found, kind.distance) for kind in found.keypoints}
    assert kinds["nose"] == (1, 1, pytest.approx(4 / root, rel=1e-3))
    assert kinds["wrist"] == (2, 1, pytest.approx(4 / root, rel=1e-3))
    assert len(kinds) == 9 and sum(labelled for labelled, _, _ in kinds.values()) == 17


def test_people_whose_keypoints_nobody_labelled_count_neither_way(labelled: Any, tmp_path: Path) -> None:
    annotations, folder, xy = labelled
    data = json.loads(annotations.read_text())
    data["images"].append(data["images"][0] | {"id": 2})
    data["annotations"].append(data["annotations"][0] | {"image_id": 2})  # a file must label somebody
    data["annotations"][0] |= {"keypoints": [0] * 51, "num_keypoints": 0}
    (tmp_path / "unmarked.json").write_text(json.dumps(data))
    found = accuracy(CocoLabels(tmp_path / "unmarked.json", folder), person(xy)).breakdown
    assert (found.bands, found.keypoints) == ((), ())
    assert found.scores[0] == AtScore(0, 0, 0, 0)


@pytest.mark.parametrize("number", [0, 7])
def test_labels_numbered_from_0_and_labels_with_one_number_are_all_found(labelled: Any, tmp_path: Path, number: int) -> None:
    """pycocotools takes a match with label 0 for none, and forgets one of two with the same number."""
    annotations, folder, xy = labelled
    data = json.loads(annotations.read_text())
    data["images"].append(data["images"][0] | {"id": 2})
    data["annotations"] = [data["annotations"][0] | {"id": number}, data["annotations"][0] | {"id": 7, "image_id": 2}]
    (tmp_path / "numbered.json").write_text(json.dumps(data))
    found = CocoLabels(tmp_path / "numbered.json", folder).evaluation({1: person(xy), 2: person(xy)}, COCO18).accuracy
    assert (found.ap, found.ar, found.persons) == (pytest.approx(1), pytest.approx(1), 2)


def test_the_error_of_a_loss_is_what_other_pictures_would_make_of_it(labelled: Any, tmp_path: Path) -> None:
    """Thirty pictures; one engine misses the person on every third."""
    annotations, folder, xy = labelled
    data = json.loads(annotations.read_text())
    ids = range(1, 31)
    data["images"] = [data["images"][0] | {"id": i} for i in ids]
    data["annotations"] = [data["annotations"][0] | {"id": i, "image_id": i} for i in ids]
    (tmp_path / "many.json").write_text(json.dumps(data))
    labels = CocoLabels(tmp_path / "many.json", folder)
    whole = {i: person(xy) for i in ids}
    part = {i: no_poses(18) if i % 3 == 0 else people for i, people in whole.items()}
    all_found, some_found = labels.evaluation(whole, COCO18), labels.evaluation(part, COCO18)
    nobody_found = labels.evaluation(dict.fromkeys(ids, no_poses(18)), COCO18)
    binomial = (1 / 3 * 2 / 3 / 30) ** 0.5
    assert some_found.lost(all_found) == pytest.approx(1 / 3, abs=0.02)
    assert some_found.lost_error(all_found) == pytest.approx(binomial, rel=0.25)
    assert (nobody_found.lost(all_found), nobody_found.lost_error(all_found)) == (pytest.approx(1), pytest.approx(0))


def test_left_and_right_are_told_apart(labelled: Any) -> None:
    annotations, folder, xy = labelled
    swapped = xy[[0, *(k + 1 if k % 2 else k - 1 for k in range(1, 17))]]
    assert accuracy(CocoLabels(annotations, folder), person(swapped)).ap < 0.2


def test_labels_that_are_not_what_they_should_be_are_refused(labelled: Any, tmp_path: Path) -> None:
    annotations, folder, _ = labelled
    with pytest.raises(ConfigError, match=r"1 of 1 pictures .* 1\.png"):
        CocoLabels(annotations, tmp_path / "elsewhere")
    data = json.loads(annotations.read_text())
    for broken, why in (({}, "wanted COCO"), (data | {"annotations": [{"id": 1}]}, "no keypoints"), ([], "wanted COCO")):
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match=why):
            CocoLabels(tmp_path / "broken.json", folder)


@pytest.mark.slow
def test_the_real_network_keeps_its_accuracy(real_bundles: dict[str, Export], assets: Path) -> None:
    """On the first 20 labelled pictures, at the small input of the tests; the whole set at 368 x 656 is in docs/parser.md."""
    labels = CocoLabels(assets / "coco" / "val.json", assets / "coco" / "val")
    labels.pictures = dict(list(labels.pictures.items())[:20])
    bundles = [real_bundles[name].bundle.path for name in ("ov-fp32", "onnx")]
    report, same = coco_accuracy(bundles, labels, PafParameters())
    assert report.accuracy.pictures == 20
    assert report.accuracy.ap > 0.25
    assert abs(same.lost) < 0.005 and same.lost_error < 0.005
    assert coco_accuracy(bundles[:1], labels, PafParameters(threshold=0.9))[0].accuracy.ap < 0.1


def test_a_bundle_agrees_with_itself_and_less_with_another(painted_bundles: dict[str, Path], painted_pictures: list[Path]) -> None:
    paths, pictures = painted_bundles, painted_pictures
    same = bundle_agreement(paths["ov-fp32"], paths["ov-fp32"], pictures, PafParameters())
    assert (same.oks_mean, same.missed, same.extra) == (1, 0, 0)
    assert same.persons > 3
    other = bundle_agreement(paths["ov-fp32"], paths["onnx"], pictures, PafParameters())
    assert 0.99 < other.oks_mean <= 1


def test_no_agreement_is_told_where_the_reference_finds_nobody(painted_bundles: dict[str, Path], tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.full((64, 64, 3), 128, np.uint8))
    with pytest.raises(ConfigError, match="finds nobody in these pictures"):
        bundle_agreement(painted_bundles["ov-fp32"], painted_bundles["onnx"], [grey], PafParameters())


def test_an_agreement_as_json_says_where_it_was_measured(painted_bundles: dict[str, Path], painted_pictures: list[Path]) -> None:
    words = ("--reference", painted_bundles["ov-fp32"], "--bundle", painted_bundles["ov-fp32"], "--images", painted_pictures[0], "--json")
    data = json.loads(CliRunner().invoke(app, ["agreement", *map(str, words)]).stdout)
    assert data["environment"]["processor"] and data["report"]["oks_mean"] == 1


def test_a_later_bundle_that_cannot_be_opened_is_told_before_the_first_picture(labelled: Any, painted_bundles: dict[str, Path]) -> None:
    annotations, folder, _ = labelled
    ticks: list[None] = []
    bundles = [painted_bundles["ov-fp32"], folder / "none.pose"]
    with pytest.raises(ConfigError, match=r"none\.pose"):
        coco_accuracy(bundles, CocoLabels(annotations, folder), PafParameters(), "CPU", lambda: ticks.append(None))
    assert not ticks
