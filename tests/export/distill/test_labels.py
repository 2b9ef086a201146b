"""People whom somebody marked, beside those whom the teacher sees."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18
from edgepose.export.checkpoint import architecture_of
from edgepose.export.distill.album import Album
from edgepose.export.distill.augment import View
from edgepose.export.distill.labels import CocoPeople
from edgepose.export.distill.supply import Supply
from edgepose.export.distill.teacher import OpenVinoTeacher
from edgepose.export.networks.human_pose_estimation_0001 import HumanPoseEstimation0001

HERE = Path("folder")


def test_labels_correct_the_panel_that_shows_their_picture_and_no_other(album: Album, teacher: OpenVinoTeacher) -> None:
    class Marks:
        def knows(self, picture: int) -> bool:
            return picture == 2

        def correct(self, maps: torch.Tensor, picture: int, view: View) -> None:
            assert picture == 2 and not view.tiled
            maps[:] = 9

    white = Album(album.paths, tuple(np.full_like(p, 255 if n == 2 else 60) for n, p in enumerate(album.pictures)), album.scales)
    marked = Supply(white, teacher, 4, seed=3, labels=Marks())

    panels = 0
    for number in range(8):
        batch = marked.batch(number)
        corrected = batch.lesson.maps[:, 0] == 9
        shows = avg_pool2d((batch.pictures == 255).all(-1).float()[:, None], 4)[:, 0] == 1
        assert not (shows & ~corrected).any()
        for cells in corrected[corrected.any((1, 2))]:
            rows, columns = cells.any(1), cells.any(0)
            assert (cells == rows[:, None] & columns).all()
            panels += int(cells.sum() < 16 * 16)
        others = (batch.pictures == 60).all(-1)
        assert not (others & corrected.repeat_interleave(4, 1).repeat_interleave(4, 2)).any()
    assert panels > 3


def labels_file(path: Path, keypoints: list[list[float]], names: list[str]) -> Path:
    flat = list(itertools.chain.from_iterable(keypoints))
    person = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "num_keypoints": len(keypoints), "keypoints": flat}
    content = {"images": [{"id": 7, "file_name": "0.png"}], "annotations": [person], "categories": [{"id": 1, "keypoints": names}]}
    path.write_text(json.dumps(content))
    return path


def test_labels_add_what_the_teacher_missed_and_leave_what_it_saw(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[20, 36, 2], [92, 36, 2]], ["red", "blue"])
    people = CocoPeople(file, HERE, album, teacher.contract)
    maps = torch.zeros(5, 16, 32, dtype=torch.float16)
    maps[2] = 1
    maps[0, 2, 2] = 0.7

    people.correct(maps, 0, View(np.array([[1.0, 0, 0], [0, 1.0, 0]]), tiled=False))

    assert people.knows(0) and not people.knows(1) and len(people) == 1
    assert maps[0].argmax() == 9 * 32 + 5  # (20.5, 36.5) px is right of the edge between cells 4 and 5, below that between 8 and 9
    assert float(maps[0].max()) > 0.9 and float(maps[1, 8:10, 22:24].min()) > 0.88
    assert float(maps[0, 2, 2]) == pytest.approx(0.7, abs=1e-3)
    assert float(maps[2, 8, 5]) < 0.1 and float(maps[2, 0, 31]) == 1
    assert maps[3, 8, 5:23].tolist() == [1] * 18 and float(maps[4].abs().max()) == 0 and float(maps[3, 2].max()) == 0


def test_a_label_says_the_centre_of_its_pixel(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[19.5, 35.5, 2], [91.5, 35.5, 2]], ["red", "blue"])
    maps = torch.zeros(5, 16, 32)

    CocoPeople(file, HERE, album, teacher.contract).correct(maps, 0, View(np.array([[1.0, 0, 0], [0, 1.0, 0]]), tiled=False))

    assert maps[0, 8:10, 4:6].unique().numel() == 1  # (20, 36) by our count, the corner of these cells
    assert float(maps[0, 8:10, 4:6].max()) == float(maps[0].max())


def test_people_too_small_for_such_peaks_stay_as_the_teacher_sees_them(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[20, 36, 2], [44, 36, 2]], ["red", "blue"])
    maps = torch.zeros(5, 16, 16)

    CocoPeople(file, HERE, album, teacher.contract).correct(maps, 0, View(np.array([[2.6, 0, -20], [0, 2.6, -60]]), tiled=False))

    assert float(maps.abs().max()) == 0


def test_a_keypoint_behind_the_next_panel_leaves_no_peak_at_the_seam(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[-5, 36, 2], [92, 36, 2]], ["red", "blue"])
    maps = torch.zeros(5, 16, 32)

    CocoPeople(file, HERE, album, teacher.contract).correct(maps, 0, View(np.array([[1.0, 0, 0], [0, 1.0, 0]]), tiled=False))

    assert float(maps[0].max()) == 0 and float(maps[1].max()) > 0.9
    assert maps[3, 8, :23].tolist() == [1] * 23  # the limb up to the edge


def test_a_reduced_picture_is_of_the_size_that_its_labels_say(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[600, 1100, 2], [2700, 1100, 2]], ["red", "blue"])
    said = json.loads(file.read_text())
    said["images"][0] |= {"width": 4608, "height": 2765}
    file.write_text(json.dumps(said))

    people = CocoPeople(file, HERE, Album(album.paths, album.pictures, (160 / 4608,) * 6), teacher.contract)

    assert people.knows(0)


def test_a_neck_is_between_two_marked_shoulders(album: Album, tmp_path: Path) -> None:
    contract = architecture_of(HumanPoseEstimation0001().state_dict()).contract({}, None)
    names = ["left_shoulder", "right_shoulder"]
    file = labels_file(tmp_path / "labels.json", [[100, 40, 2], [20, 60, 2]], names)
    maps = torch.zeros(57, 12, 20)

    CocoPeople(file, HERE, album, contract).correct(maps, 0, View(np.array([[1.0, 0, 0], [0, 1.0, 0]]), tiled=False))

    neck = maps[COCO18.keypoints.index("neck")]
    assert float(neck[6, 7]) > 0.7 and neck.argmax() in (6 * 20 + 7, 5 * 20 + 7, 6 * 20 + 8)
    assert float(maps[COCO18.keypoints.index("nose")].max()) == 0


def test_labels_of_other_pictures_are_refused(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[1, 1, 2]], ["red"])
    other = Album((HERE / "else.png",), album.pictures[:1], (1.0,))

    with pytest.raises(ConfigError, match="none of its 1 pictures is in folder"):
        CocoPeople(file, HERE, other, teacher.contract)
    short = labels_file(tmp_path / "short.json", [[1, 1, 2]], ["red", "blue"])
    with pytest.raises(ConfigError, match="a person has 3 numbers, three for each keypoint; its category names 2"):
        CocoPeople(short, HERE, album, teacher.contract)


def test_a_picture_of_the_same_name_elsewhere_has_no_label(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    file = labels_file(tmp_path / "labels.json", [[20, 36, 2], [92, 36, 2]], ["red", "blue"])
    folders = [Path("before"), HERE, Path("after")]
    both = Album(tuple(folder / "0.png" for folder in folders), album.pictures[:3], (1.0,) * 3)

    people = CocoPeople(file, HERE, both, teacher.contract)

    assert [people.knows(place) for place in range(3)] == [False, True, False]


def test_people_count_whom_the_file_does_not_count(album: Album, teacher: OpenVinoTeacher, tmp_path: Path) -> None:
    """Not every tool writes num_keypoints."""
    file = labels_file(tmp_path / "labels.json", [[20, 36, 2], [92, 36, 2]], ["red", "blue"])
    said = json.loads(file.read_text())
    del said["annotations"][0]["num_keypoints"]
    picture = said["annotations"][0]["image_id"]
    said["annotations"] += [{"image_id": picture, "keypoints": None, "iscrowd": None}, {"image_id": -1, "keypoints": "of another picture"}]
    said["images"][0] |= {"width": 0, "height": 0}  # where a tool does not know it
    file.write_text(json.dumps(said))

    assert CocoPeople(file, HERE, album, teacher.contract).knows(0)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("annotations", {"keypoints": [20, 36, 0, 92, 36, 0]}, "nobody on the 1 of its pictures .* skeleton 'dumbbell' knows"),
        ("categories", {"keypoints": ["nose", "left_eye"]}, r"nobody on the 1 of .* knows \(red, blue"),
        ("annotations", {"keypoints": [20, 36, 2, 92, 36]}, r"annotations\[0\]: a person has 5 numbers"),
        ("annotations", {"keypoints": [float("nan"), 36, 2, 92, 36, 2]}, r"annotations\[0\]: .*keypoints"),
        ("annotations", {"image_id": None}, r"annotations\[0\]: .*image_id"),
        ("images", {"file_name": None}, r"images\[0\]: .*file_name"),
        ("images", {"width": 96, "height": 160}, "0.png is 96 x 160 pixels there, but the file, .* about 160 x 96: wanted the pictures as"),
    ],
)
def test_labels_that_would_teach_nothing_are_refused(
    album: Album, teacher: OpenVinoTeacher, tmp_path: Path, kind: str, change: dict[str, object], words: str
) -> None:
    file = labels_file(tmp_path / "labels.json", [[20, 36, 2], [92, 36, 2]], ["red", "blue"])
    said = json.loads(file.read_text())
    said[kind][0] |= change
    file.write_text(json.dumps(said))

    with pytest.raises(ConfigError, match=words):
        CocoPeople(file, HERE, album, teacher.contract)
