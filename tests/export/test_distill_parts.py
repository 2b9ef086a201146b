"""The parts of `pose-distill`, each by itself."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import painted_people
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from edgepose.engines.errors import CheckpointError, ConfigError, InferenceFailed
from edgepose.engines.skeleton import COCO18, Limb, Skeleton
from edgepose.export.checkpoint import architecture_of, load_state_dict
from edgepose.export.distill.accuracy import model_from_module
from edgepose.export.distill.album import LONGEST_SIDE, Album, album_from_folders
from edgepose.export.distill.augment import Camera, View, crop_into, mirrored_order, random_panels, random_view
from edgepose.export.distill.clock import WorkingClock
from edgepose.export.distill.course import Files, save_weights
from edgepose.export.distill.diary import Diary
from edgepose.export.distill.features import bottlenecks
from edgepose.export.distill.labels import CocoPeople
from edgepose.export.distill.optimiser import Muon, learning_rate, orthogonalised
from edgepose.export.distill.pupil import Pupil, losses
from edgepose.export.distill.supply import Batch, Stock, Supply
from edgepose.export.distill.teacher import Lesson, OpenVinoTeacher, TorchTeacher, open_teacher
from edgepose.export.distill.training import map_pooling
from edgepose.export.networks.edgepose import SIZES, EdgePose
from edgepose.export.networks.human_pose_estimation_0001 import HumanPoseEstimation0001

CPU = torch.device("cpu")
SIDE = 64
HERE = Path("folder")


@pytest.fixture(scope="module")
def teacher(painted_bundles: dict[str, Path]) -> OpenVinoTeacher:
    opened = open_teacher(painted_bundles["ov-fp32"], 4, SIDE, CPU)
    assert isinstance(opened, OpenVinoTeacher)
    return opened


@pytest.fixture
def album() -> Album:
    pictures = tuple(painted_people.painted_pictures(6))
    return Album(tuple(HERE / f"{n}.png" for n in range(6)), pictures, (1.0,) * 6)


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


def test_the_features_of_a_teacher_are_those_that_all_its_outputs_depend_on() -> None:
    torch.manual_seed(0)
    network = HumanPoseEstimation0001().eval()
    contract = architecture_of(network.state_dict()).contract({}, None).resized(SIDE, SIDE)
    model = model_from_module(network, contract, 1)
    middle, last = bottlenecks(model, (8, 8))
    model.add_outputs([middle, last])
    pictures = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)

    found = OpenVinoTeacher(_compiled(model, contract), contract, 2, "").teach(pictures)
    wanted = TorchTeacher(network, contract, CPU).teach(pictures)

    assert TorchTeacher(network, contract, CPU).feature_channels == (128, 128)
    for a, b in zip((found.maps, *found.features), (wanted.maps, *wanted.features), strict=True):
        assert torch.corrcoef(torch.stack([a.float().ravel(), b.float().ravel()]))[0, 1] > 0.99


def test_a_teacher_with_one_bottleneck_has_one_feature_and_its_outputs_are_none() -> None:
    """The maps of a trt_pose network grow in its heads."""

    class Teacher(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.far, self.heat = (torch.nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in ((3, 7, 4), (7, 9, 2), (9, 3, 1)))
            self.paf = torch.nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            heat = torch.nn.functional.interpolate(self.heat(self.far(self.stem(x))), scale_factor=2.0)
            return heat, self.paf(heat)

    contract = painted_people.CONTRACT.resized(SIDE, SIDE)
    model = model_from_module(Teacher().eval(), contract, 2)

    found = bottlenecks(model, contract.map_hw)

    assert [tensor.get_partial_shape()[1].get_length() for tensor in found] == [7]
    model.add_outputs(list(found))
    assert OpenVinoTeacher(_compiled(model, contract, 2), contract, len(found), "").feature_channels == (7,)


def test_one_of_our_own_family_teaches_in_pytorch_what_a_pupil_compares() -> None:
    torch.manual_seed(0)
    network = EdgePose(SIZES["n"]).eval()
    teacher = TorchTeacher(network, architecture_of(network.state_dict()).contract({}, None).resized(SIDE, SIDE), CPU)
    pupil = Pupil(EdgePose(SIZES["n"]), 57, teacher.feature_channels)
    lesson = teacher.teach(np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8))

    found = losses(pupil(torch.zeros(2, 3, SIDE, SIDE)), lesson, background=18)

    assert teacher.feature_channels == (48, 48) and found.total.isfinite()


def _compiled(model, contract, count=1):  # type: ignore[no-untyped-def]
    from edgepose.engines.openvino_ import compile_model

    return compile_model(model, contract, "fp32", "CPU", 1, count)[0]


def test_a_bundle_teaches_at_another_size_than_it_was_made_for(teacher: OpenVinoTeacher) -> None:
    pictures = np.ascontiguousarray(painted_people.painted_pictures(4)[:, :SIDE, :SIDE])

    lesson = teacher.teach(pictures)

    assert lesson.maps.shape == (4, 5, SIDE // 4, SIDE // 4) and lesson.maps.dtype == torch.float16
    assert len(lesson.features) == 2 and teacher.feature_channels == tuple(f.shape[1] for f in lesson.features)
    assert float(lesson.maps[:, :2].max()) > 0.5


def test_the_same_seed_and_number_give_the_same_crops(album: Album, teacher: OpenVinoTeacher) -> None:
    with Supply(album, teacher, 4, seed=1, first=5) as supply:
        running = supply.next(), supply.next()
    alone = Supply(album, teacher, 4, seed=1)

    for batch, number in zip(running, (5, 6), strict=True):
        again = alone.batch(number)
        assert torch.equal(batch.pictures, again.pictures)
        assert torch.equal(batch.lesson.maps, again.lesson.maps)
    assert not torch.equal(running[0].pictures, running[1].pictures)


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


def test_what_the_teachers_thread_raises_reaches_the_student(album: Album, teacher: OpenVinoTeacher) -> None:
    class Tired:
        contract, feature_channels, description = teacher.contract, teacher.feature_channels, ""

        def teach(self, pictures: NDArray[np.uint8]) -> Lesson:
            raise InferenceFailed(f"enough of {len(pictures)}")

    with Supply(album, Tired(), 4, seed=1) as supply, pytest.raises(InferenceFailed, match="enough of 4"):
        supply.next()


def test_the_stock_forgets_the_oldest() -> None:
    stock = Stock(6)
    for value in range(3):
        pictures = torch.full((4, 8, 8, 3), value, dtype=torch.uint8)
        stock.add(Batch(pictures, Lesson(torch.zeros(4, 5, 1, 1), (torch.zeros(4, 2, 1, 1),))))

    drawn = stock.draw(200, torch.Generator().manual_seed(0))

    assert len(stock) == 6
    assert drawn.pictures.unique().tolist() == [1, 2]
    assert drawn.lesson.features[0].shape == (200, 2, 1, 1)


def test_a_stock_filled_again_draws_what_it_would_have_drawn() -> None:
    def fed(stock: Stock, numbers: range) -> Batch:
        for value in numbers:
            maps = torch.arange(4.0).view(4, 1, 1, 1) + 10 * value
            stock.add(Batch(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), Lesson(maps, ())))
        return stock.draw(50, torch.Generator().manual_seed(0))

    whole, again = fed(Stock(10), range(7)), fed(Stock(10, before=4 * 4), range(4, 7))

    assert torch.equal(whole.lesson.maps, again.lesson.maps)


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


def test_muon_makes_a_step_in_all_directions_alike() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 16, 144)))
    tall = torch.linalg.svdvals(orthogonalised(torch.randn(2, 64, 9)))

    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    assert float(tall.min()) > 0.3 and float(tall.max()) < 1.3


def test_muon_comes_nearer_to_the_bottom_of_a_bowl() -> None:
    torch.manual_seed(0)
    wanted = torch.randn(2, 8, 4, 3, 3)
    weights = [torch.nn.Parameter(torch.zeros(8, 4, 3, 3)) for _ in range(2)]
    optimiser = Muon(weights, 0.0)
    for step in range(80):
        optimiser.param_groups[0]["lr"] = 0.2 * (1 - step / 80)
        optimiser.zero_grad()
        sum((w - t).square().sum() for w, t in zip(weights, wanted, strict=True)).backward()  # type: ignore[union-attr]
        optimiser.step()

    for weight, target in zip(weights, wanted, strict=True):
        assert float((weight.detach() - target).norm()) < 0.3 * float(target.norm())


def test_the_learning_rate_rises_stays_and_falls_at_the_end() -> None:
    rates = [learning_rate(1.0, step, step / 10_000) for step in range(10_001)]

    assert rates[0] == 1 / 200 and rates[99] == 0.5 and rates[199:8000] == [1.0] * 7801
    assert rates[9000] == pytest.approx(0.5) and rates[10_000] == 0
    assert learning_rate(1.0, 2, 2 / 40) == 1


def test_a_pause_counts_as_one_usual_step() -> None:
    times = iter([0.0, 0.5, 1.0, 1.5, 7200.0, 7200.5])
    clock = WorkingClock(10.0, now=lambda: next(times))

    counted = [clock.tick() for _ in range(5)]

    assert counted == [0.5] * 5
    assert clock.worked_s == 12.5


def test_steps_that_are_always_slow_are_work() -> None:
    times = iter([0.0, 40.0, 80.0, 120.0, 7200.0])
    clock = WorkingClock(now=lambda: next(times))

    assert [clock.tick() for _ in range(4)] == [30.0, 40.0, 40.0, 40.0]


def test_a_teacher_of_coarser_maps_is_refused(teacher: OpenVinoTeacher) -> None:
    contract = architecture_of(HumanPoseEstimation0001().state_dict()).contract({}, None)
    coarse = contract.model_copy(update={"output": contract.output.model_copy(update={"stride": 16})})

    assert map_pooling(teacher.contract, contract) == 2
    with pytest.raises(ConfigError, match="the teacher's maps have stride 16, the student's 8: wanted a divisor of 8"):
        map_pooling(coarse, contract)


def test_a_checkpoint_is_known_by_its_weights(assets: Path) -> None:
    state = load_state_dict(assets / "weights" / "human-pose-estimation-0001.pth")

    assert architecture_of(state).name == "human-pose-estimation-0001"
    del state["stem.weight"]
    with pytest.raises(CheckpointError, match="fits no known network: the nearest known network is human-pose-estimation-0001"):
        architecture_of(state)


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or bundle: wanted a bundle made by pose-export, or a checkpoint"):
        open_teacher(tmp_path / "none.pth", 4, SIDE, CPU)


def test_trainings_whose_names_end_in_numbers_have_files_of_their_own() -> None:
    names = ["student.pth", "run-0.001", "run-0.002"]

    files = [Files(Path("out") / name) for name in names]

    assert files[0].state == Path("out/student.state.pt") and files[0].sheets == Path("out/student.sheets")
    assert files[1].state == Path("out/run-0.001.state.pt") and files[2].diary == Path("out/run-0.002.jsonl")


def test_a_torn_line_of_the_diary_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "student.jsonl"
    path.write_text('{"event": "progr')

    for step in (1, 2):
        Diary(path).write("progress", {"step": step})

    assert [json.loads(line)["step"] for line in path.read_text().splitlines()[1:]] == [1, 2]


def test_a_checkpoint_of_another_skeleton_is_to_be_exported_first(tmp_path: Path) -> None:
    save_weights(tmp_path / "own.pth", EdgePose(SIZES["n"], heatmaps=3, pafs=2), {})

    with pytest.raises(ConfigError, match=r"own.pth: .* but skeleton 'coco18' has 18 .*: a teacher of another skeleton .* give its bundle"):
        open_teacher(tmp_path / "own.pth", 4, SIDE, CPU)


def test_crops_that_a_teacher_cannot_take_are_told_as_such(assets: Path) -> None:
    with pytest.raises(ConfigError, match=r"mobilenet_v2_small wants pictures in multiples of 16: --crop 72 is none"):
        open_teacher(assets / "weights" / "mobilenet_v2_small.pth", 4, 72, CPU)


def test_a_video_is_no_album(assets: Path) -> None:
    with pytest.raises(ConfigError, match="wanted a folder of pictures"):
        album_from_folders([assets / "video" / "single_360x360.mp4"])
