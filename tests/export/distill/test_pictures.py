"""Pictures to learn from: which they are, and how they are cut, turned and put together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18, Limb, Skeleton
from edgepose.export.distill.album import LONGEST_SIDE, album_from_folders
from edgepose.export.distill.augment import Camera, View, crop_into, mirrored_order, random_panels, random_view

SIDE = 64


def random_views(count: int, picture_wh: tuple[int, int], side: int) -> list[View]:
    random = np.random.default_rng(0)
    return [random_view(picture_wh, (side, side), random) for _ in range(count)]


def test_large_pictures_are_kept_smaller_and_say_by_how_much(tmp_path: Path) -> None:
    for name, size in (("2.png", (1200, 600)), ("10.png", (40, 30))):
        cv2.imwrite(str(tmp_path / name), np.zeros((size[1], size[0], 3), np.uint8))
    told: list[tuple[int, int]] = []

    album = album_from_folders([tmp_path], lambda done, whole: told.append((done, whole)))

    assert [p.name for p in album.paths] == ["2.png", "10.png"]
    assert [p.shape for p in album.pictures] == [(LONGEST_SIDE // 2, LONGEST_SIDE, 3), (30, 40, 3)]
    assert album.scales == (LONGEST_SIDE / 1200, 1.0)
    assert told == [(1, 2), (2, 2)]


def test_pictures_to_judge_by_are_not_learned_from(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    held_out = [tmp_path / ".." / tmp_path.name / "2.png"]

    assert [p.name for p in album_from_folders([tmp_path], held_out=held_out).paths] == ["1.png", "3.png"]
    with pytest.raises(ConfigError, match="every picture is one to judge by: wanted others to learn from"):
        album_from_folders([tmp_path], held_out=tmp_path.iterdir())


def test_a_dot_lands_in_the_crop_where_its_view_says() -> None:
    picture = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(picture, (200, 90), 9, (255, 255, 255), -1)
    seen = 0
    for view in random_views(40, (320, 240), 192):
        crop = np.empty((192, 192, 3), np.uint8)
        crop_into(crop, picture, View(view.matrix, tiled=False))
        person = np.array([[[200.5, 90.5, 2.0]] + [[0.0, 0.0, 0.0]] * 17])
        x, y = view.on_crop(person, COCO18)[0, 0, :2]
        if min(x, y) < 30 or max(x, y) > 162:  # cut off by the crop's edge
            continue
        bright = crop[..., 0].astype(float) * (crop[..., 0] > 128)
        rows, columns = np.mgrid[:192, :192] + 0.5
        assert (bright * columns).sum() / bright.sum() == pytest.approx(x, abs=0.15)
        assert (bright * rows).sum() / bright.sum() == pytest.approx(y, abs=0.15)
        seen += 1
    assert seen > 10


def test_a_picture_far_away_keeps_its_brightness_and_place() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[::5] = 250
    picture[:, :150] = 0
    crop = np.empty((60, 60, 3), np.uint8)

    crop_into(crop, picture, View(np.array([[0.2, 0, 0], [0, 0.2, 0]]), tiled=False))

    right = crop[5:-5, 30:-5, 0].astype(float)
    assert right.mean() == pytest.approx(50, abs=1) and right.std() < 1  # every fifth row alone would be 0 or 250
    assert crop[5:-5, 5:30].max() == 0 and crop[5:-5, 30:-5].min() > 49


def test_panels_cover_a_training_picture_on_whole_cells() -> None:
    random = np.random.default_rng(0)
    counts = set()
    for _ in range(100):
        covered = np.zeros((192, 192), int)
        panels = random_panels(192, random)
        for rows, columns in panels:
            covered[rows, columns] += 1
            assert all(edge % 16 == 0 for part in (rows, columns) for edge in (part.start, part.stop))
        assert (covered == 1).all()
        counts.add(len(panels))
    assert counts == {1, 2, 3, 4}


def test_a_mirror_makes_right_of_left() -> None:
    order = mirrored_order(COCO18)

    for place, other in enumerate(order):
        assert order[other] == place
        assert COCO18.keypoints[other].replace("right", "left") == COCO18.keypoints[place].replace("right", "left")
    assert order[COCO18.keypoints.index("neck")] == COCO18.keypoints.index("neck")
    assert order[COCO18.keypoints.index("left_knee")] == COCO18.keypoints.index("right_knee")


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ("r_ankle l_ankle neck", [1, 0, 2]),
        ("RShoulder LShoulder LBigToe RBigToe Nose", [1, 0, 3, 2, 4]),
        ("leftEye rightEye topLeft", [1, 0, 2]),
        ("LEFT-EYE RIGHT-EYE éar", [1, 0, 2]),
        ("red blue", [0, 1]),
    ],
)
def test_a_mirror_knows_other_ways_to_write_a_side(names: str, order: list[int]) -> None:
    assert mirrored_order(Skeleton(name="own", keypoints=tuple(names.split()), limbs=(Limb(start=0, end=1, x=0, y=1),))) == order


def test_the_camera_repeats_itself_by_its_seed_and_keeps_to_the_levels() -> None:
    pictures = torch.full((4, 3, 16, 16), 100.0)
    first, second = (Camera(3).shoot(pictures.clone()) for _ in range(2))

    assert torch.equal(first, second)
    assert float(first.min()) >= 0 and float(first.max()) <= 255
    assert not torch.equal(first[0], first[1])


def test_a_video_is_no_album(assets: Path) -> None:
    with pytest.raises(ConfigError, match="wanted a folder of pictures"):
        album_from_folders([assets / "video" / "single_360x360.mp4"])
