"""Results on disk: pictures, videos, OpenPose JSON, COCO results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet
import pytest
from pycocotools import coco, cocoeval

from edgepose.engines.errors import SinkError
from edgepose.engines.skeleton import BUILT_IN_SKELETONS, COCO18, MPII15, TRT_POSE18, Skeleton
from edgepose.runtime.coco import COCO17_KEYPOINTS, coco17_from
from edgepose.runtime.overlay import draw_poses
from edgepose.runtime.parquet_sink import ParquetSink
from edgepose.runtime.poses import Poses, no_poses
from edgepose.runtime.sinks import CocoResultsSink, JsonLinesSink, OpenPoseJsonSink, PictureSink, Sink, VideoSink
from edgepose.runtime.sources import Frame, open_source

NOBODY = no_poses(18)
Maker = Callable[[Path], Sink]
SINKS = {
    "pictures": lambda folder: PictureSink(folder, COCO18),
    "openpose": lambda folder: OpenPoseJsonSink(folder, COCO18),
    "coco": lambda folder: CocoResultsSink(folder / "results.json", COCO18),
    "jsonl": lambda folder: JsonLinesSink(folder / "poses.jsonl", COCO18),
    "parquet": lambda folder: ParquetSink(folder / "poses.parquet", COCO18),
    "video": lambda folder: VideoSink(folder / "out.mp4", 25, COCO18),
}
every_sink = pytest.mark.parametrize("make", SINKS.values(), ids=SINKS.keys())


def _frame(name: str = "000000000139", index: int = 0, *, wh: tuple[int, int] = (64, 48), time_s: float | None = None) -> Frame:
    picture = np.random.default_rng(index).integers(60, 190, (wh[1], wh[0], 3), np.uint8)
    return Frame(np.asarray(cv2.GaussianBlur(picture, (0, 0), 4), np.uint8), name, index, time_s)


def _everybody(skeleton: Skeleton, persons: int = 2) -> Poses:
    """Keypoint k of person p at (10 p + k + 0.5, 2 k + 0.5) with confidence 0.5."""
    k = np.arange(len(skeleton.keypoints), dtype=np.float32)
    people = [np.stack([10 * p + k + 0.5, 2 * k + 0.5, np.full_like(k, 0.5)], -1) for p in range(persons)]
    return Poses(np.stack(people), np.linspace(0.9, 0.3, persons).astype(np.float32))


def _without(poses: Poses, keypoint: int) -> Poses:
    keypoints = poses.keypoints.copy()
    keypoints[:, keypoint] = np.nan, np.nan, 0
    return Poses(keypoints, poses.scores)


def _write_until(sink: Sink, error: BaseException | None, frames: int = 2) -> None:
    frame = _frame(index=5)
    with sink:
        for _ in range(frames):
            sink.write(frame, _everybody(COCO18))
        if error:
            raise error


def _times_s(path: Path) -> list[float | None]:
    return [frame.time_s for frame in open_source(path).frames()]


@contextmanager
def _full_disk(at_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: write(2) fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="file size limits are a POSIX thing")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_picture_gets_its_poses_and_its_name(tmp_path: Path) -> None:
    frame, poses = _frame("street", wh=(160, 120)), _everybody(COCO18)
    with PictureSink(tmp_path / "new" / "folder", COCO18, scores=True, suffix=".png") as sink:
        sink.write(frame, poses)
    written = cv2.imread(str(tmp_path / "new" / "folder" / "street.png"))
    np.testing.assert_array_equal(written, draw_poses(frame.picture, poses, COCO18, scores=True))


def test_a_jpeg_is_close_to_what_was_drawn(tmp_path: Path) -> None:
    frame = _frame("street.v2")
    with PictureSink(tmp_path, COCO18) as sink:
        sink.write(frame, NOBODY)
    written = cv2.imread(str(tmp_path / "street.v2.jpg"))
    assert written is not None
    assert np.abs(written.astype(int) - frame.picture).mean() < 3


def test_openpose_json_has_openpose_keys_and_zeros_for_what_is_absent(tmp_path: Path) -> None:
    with OpenPoseJsonSink(tmp_path, COCO18) as sink:
        sink.write(_frame("clip_000000000007"), _without(_everybody(COCO18), 4))
    data = json.loads((tmp_path / "clip_000000000007_keypoints.json").read_text())
    assert data["version"] == 1.3
    assert [p["person_id"] for p in data["people"]] == [[-1], [-1]]
    assert set(data["people"][0]) == {
        "person_id",
        *(f"{part}_keypoints_{axes}" for part in ("pose", "face", "hand_left", "hand_right") for axes in ("2d", "3d")),
    }
    keypoints = np.reshape(data["people"][1]["pose_keypoints_2d"], (18, 3))
    np.testing.assert_allclose(keypoints[3], [13.5, 6.5, 0.5])
    np.testing.assert_array_equal(keypoints[4], 0)


def test_ids_of_tracked_people_are_written(tmp_path: Path) -> None:
    tracked = replace(_everybody(COCO18), ids=np.array([7, 3]))
    with OpenPoseJsonSink(tmp_path, COCO18) as openpose, JsonLinesSink(tmp_path / "poses.jsonl", COCO18) as lines:
        openpose.write(_frame("a"), tracked)
        lines.write(_frame("a"), tracked)
    assert [p["person_id"] for p in json.loads((tmp_path / "a_keypoints.json").read_text())["people"]] == [[7], [3]]
    assert [p["id"] for p in json.loads((tmp_path / "poses.jsonl").read_text())["people"]] == [7, 3]


def test_json_lines_have_a_line_a_frame(tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "poses.jsonl", COCO18) as sink:
        sink.write(_frame("a", 0, time_s=0.5), _without(_everybody(COCO18), 4))
        sink.write(_frame("b", 1), NOBODY)
    first, second = (json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines())
    assert second == {"name": "b", "index": 1, "time_s": None, "people": []}
    assert (first["name"], first["index"], first["time_s"]) == ("a", 0, 0.5)
    assert first["people"][1]["keypoints"][3] == [13.5, 6.5, 0.5]
    assert first["people"][1]["keypoints"][4] is None
    assert first["people"][0] | {"keypoints": []} == {"id": None, "score": 0.9, "keypoints": []}


def test_parquet_has_a_row_a_person_and_nulls_for_what_is_absent(tmp_path: Path) -> None:
    people = _without(_everybody(COCO18), 3)
    with ParquetSink(tmp_path / "poses.parquet", COCO18) as sink:
        sink.write(_frame("a", 0, time_s=0.5), people)
        sink.write(_frame("b", 1), NOBODY)
        sink.write(_frame("c", 2), replace(people, ids=np.array([7, 9])))
    table = pyarrow.parquet.read_table(tmp_path / "poses.parquet")
    rows = table.to_pylist()
    assert [(row["name"], row["index"], row["time_s"], row["id"]) for row in rows] == [
        ("a", 0, 0.5, None),
        ("a", 0, 0.5, None),
        ("c", 2, None, 7),
        ("c", 2, None, 9),
    ]
    assert rows[1]["x"][:5] == [10.5, 11.5, 12.5, None, 14.5] and rows[1]["y"][2:5] == [4.5, None, 8.5]
    assert rows[1]["confidence"][2:5] == [0.5, 0, 0.5] and rows[1]["score"] == pytest.approx(0.3)
    assert table.schema.metadata[b"keypoints"].decode().split(",") == list(COCO18.keypoints)


def test_openpose_json_of_nobody_is_a_file_too(tmp_path: Path) -> None:
    with OpenPoseJsonSink(tmp_path, COCO18) as sink:
        sink.write(_frame("empty"), NOBODY)
    assert json.loads((tmp_path / "empty_keypoints.json").read_text()) == {"version": 1.3, "people": []}


@pytest.mark.parametrize("skeleton", BUILT_IN_SKELETONS, ids=lambda s: s.name)
def test_coco_keypoints_are_matched_by_name_and_moved_to_coco_pixels(skeleton: Skeleton) -> None:
    found = coco17_from(_everybody(skeleton), skeleton)
    assert found.shape == (2, 17, 3)
    for place, name in enumerate(COCO17_KEYPOINTS):
        wanted = [0, 0, 0]
        if name in skeleton.keypoints:
            k = skeleton.keypoints.index(name)
            wanted = [10 + k, 2 * k, 0.5]
        np.testing.assert_allclose(found[1, place], wanted, err_msg=name)


def test_coco_keypoints_that_are_absent_are_zeros() -> None:
    nose = COCO18.keypoints.index("nose")
    np.testing.assert_array_equal(coco17_from(_without(_everybody(COCO18), nose), COCO18)[:, 0], 0)
    assert coco17_from(NOBODY, COCO18).shape == (0, 17, 3)


def test_coco_results_are_what_pycocotools_reads(tmp_path: Path, assets: Path) -> None:
    path = tmp_path / "results.json"
    with CocoResultsSink(path, TRT_POSE18, numbered=True) as sink:
        sink.write(_frame("000000000872"), _without(_everybody(TRT_POSE18), 0))
        sink.write(_frame("000000000885", 1), no_poses(18))
        sink.write(_frame("000000001268", 2), _everybody(TRT_POSE18, 1))
    results = json.loads(path.read_text())
    assert [r["image_id"] for r in results] == [872, 872, 1268]
    assert [r["score"] for r in results] == pytest.approx([0.9, 0.3, 0.9])
    assert results[0]["category_id"] == 1
    assert results[0]["keypoints"][:6] == [0, 0, 0, 1, 2, 1]
    assert len(results[0]["keypoints"]) == 51
    assert len(coco.COCO(str(assets / "coco" / "val.json")).loadRes(str(path)).anns) == 3


def test_the_true_keypoints_written_as_results_score_an_average_precision_of_one(tmp_path: Path, assets: Path) -> None:
    truth = coco.COCO(str(assets / "coco" / "val.json"))
    with CocoResultsSink(tmp_path / "results.json", TRT_POSE18, numbered=True) as sink:
        for image_id in truth.getImgIds():
            sink.write(_frame(f"{image_id:012d}"), _true_poses(truth.loadAnns(truth.getAnnIds(image_id, iscrowd=False))))
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def _true_poses(annotations: list[dict[str, Any]]) -> Poses:
    people = [np.reshape(a["keypoints"], (17, 3)).astype(np.float32) for a in annotations if a["num_keypoints"]]
    if not people:
        return NOBODY
    keypoints = np.pad(np.stack(people), [(0, 0), (0, 1), (0, 0)])
    keypoints[..., :2] += 0.5
    return Poses(np.where(keypoints[..., 2:] > 0, keypoints, [np.nan, np.nan, 0]).astype(np.float32), np.ones(len(people), np.float32))


def test_frames_whose_names_are_no_numbers_are_numbered(tmp_path: Path) -> None:
    with CocoResultsSink(tmp_path / "r.json", MPII15) as sink:
        sink.write(_frame("2", 3), _everybody(MPII15, 1))  # beside others that are no numbers
    assert json.loads((tmp_path / "r.json").read_text())[0]["image_id"] == 3


def test_coco_results_of_nobody_are_an_empty_list(tmp_path: Path) -> None:
    with CocoResultsSink(tmp_path / "r.json", COCO18) as sink:
        sink.write(_frame(), NOBODY)
    assert json.loads((tmp_path / "r.json").read_text()) == []


def test_a_real_video_comes_out_with_its_pictures_rate_and_times(tmp_path: Path, assets: Path) -> None:
    source = open_source(assets / "video" / "single_360x360.mp4")
    assert source.fps
    with VideoSink(tmp_path / "out.mp4", source.fps, COCO18) as sink:
        for frame in islice(source.frames(), 12):
            sink.write(frame, NOBODY)
    again = open_source(tmp_path / "out.mp4")
    assert (again.count, again.fps) == (12, 25)
    for before, after in zip(source.frames(), again.frames(), strict=False):
        assert before.time_s == pytest.approx(after.time_s)
        assert np.abs(before.picture.astype(int) - after.picture).mean() < 4


def test_a_video_is_h264_in_yuv420p_and_says_its_colours(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 25, COCO18) as sink:
        sink.write(_frame(), NOBODY)
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert context.name == ("h264" if "libx264" in av.codecs_available else "mpeg4")
        assert context.pix_fmt == "yuv420p"
        assert context.colorspace == 1, "BT.709"


def test_without_libx264_a_video_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with VideoSink(tmp_path / "out.mp4", Fraction(30000, 1001), COCO18) as sink:
        for index in range(5):
            sink.write(_frame(index=index), NOBODY)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert _times_s(tmp_path / "out.mp4") == pytest.approx([i * 1001 / 30000 for i in range(5)], abs=1e-4)


@pytest.mark.parametrize("colour", [(0, 0, 255), (255, 0, 0), (0, 255, 0), (40, 120, 200)])
def test_colours_survive_a_video(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    with VideoSink(tmp_path / "out.mkv", 25, COCO18) as sink:
        sink.write(Frame(np.full((48, 64, 3), colour, np.uint8), "plain", 0, 0.0), NOBODY)
    np.testing.assert_allclose(next(open_source(tmp_path / "out.mkv").frames()).picture[20, 30], colour, atol=8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_of_a_variable_frame_rate_survive(tmp_path: Path, suffix: str) -> None:
    times_s = [0.0, 0.010, 0.2, 0.230, 0.9]
    with VideoSink(tmp_path / f"out{suffix}", 25, COCO18) as sink:
        for index, time_s in enumerate(times_s):
            sink.write(_frame(index=index, time_s=time_s), NOBODY)
    assert _times_s(tmp_path / f"out{suffix}") == pytest.approx(times_s, abs=1e-3)


def test_frames_without_a_time_follow_one_another_at_the_rate_given(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 12.5, COCO18) as sink:
        for index in range(4):
            sink.write(_frame(index=index), NOBODY)
    assert _times_s(tmp_path / "out.mp4") == pytest.approx([0, 0.08, 0.16, 0.24])


def test_times_that_stand_still_or_run_back_do_not_break_a_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 25, COCO18) as sink:
        for index, time_s in enumerate([0.0, 0.04, 0.04, 0.01, 0.12]):
            sink.write(_frame(index=index, time_s=time_s), NOBODY)
    times = _times_s(tmp_path / "out.mp4")
    assert len(times) == 5
    assert times == pytest.approx([0, 0.04, 0.04, 0.04, 0.12], abs=1e-3)


def test_a_pause_that_is_longer_than_the_format_can_hold_is_left_out(tmp_path: Path) -> None:
    """Of a camera that was away for half a day, and again."""
    with VideoSink(tmp_path / "out.mp4", 25, COCO18) as sink:
        for index, time_s in enumerate([0.0, 0.04, 50_000.0, 50_000.2, 100_000.0]):
            sink.write(_frame(index=index, time_s=time_s), NOBODY)
    assert _times_s(tmp_path / "out.mp4") == pytest.approx([0, 0.04, 0.08, 0.28, 0.32], abs=1e-3)


def test_odd_sizes_are_made_even_without_scaling(tmp_path: Path) -> None:
    frame = _frame(wh=(63, 47))
    with VideoSink(tmp_path / "out.mp4", 25, COCO18) as sink:
        sink.write(frame, NOBODY)
    written = next(open_source(tmp_path / "out.mp4").frames()).picture
    assert written.shape == (48, 64, 3)
    assert np.abs(written[:47, :63].astype(int) - frame.picture).mean() < 4


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 25, COCO18) as sink:
        sink.write(_frame(), NOBODY)
        with pytest.raises(SinkError, match="frame late is 32 x 48 pixels in a video of 64 x 48"):
            sink.write(_frame("late", wh=(32, 48)), NOBODY)


def test_a_camera_that_comes_back_in_another_size_stays_in_its_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 25, COCO18, scaled=True) as sink:
        for index, wh in enumerate(((64, 48), (128, 96), (64, 48))):
            sink.write(_frame(index=index, wh=wh), NOBODY)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(64, 48)] * 3


def test_names_that_are_not_utf8_are_written_all_the_same(tmp_path: Path) -> None:
    """And none over another's."""
    for latin in (b"m\xf6ller.png", b"m\xfcller.png"):
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
        (tmp_path / "a.png").rename(tmp_path / os.fsdecode(latin))
    frames, names = list(open_source(tmp_path).frames()), [r"m\xf6ller", r"m\xfcller"]
    assert [frame.name for frame in frames] == names
    with JsonLinesSink(tmp_path / "out" / "poses.jsonl", COCO18) as lines, ParquetSink(tmp_path / "out" / "p.parquet", COCO18) as table:
        pictures = PictureSink(tmp_path / "out", COCO18)
        for frame in frames:
            for sink in (lines, table, pictures):
                sink.write(frame, _everybody(COCO18))
    assert [json.loads(line)["name"] for line in (tmp_path / "out" / "poses.jsonl").read_text().splitlines()] == names
    assert all((tmp_path / "out" / f"{name}.jpg").exists() for name in names)


def test_a_folder_that_is_not_utf8_is_refused_for_a_table_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"t\xfcr")
    with pytest.raises(SinkError, match=r"p\.parquet: cannot be written \('utf-8' codec"):
        ParquetSink(folder / "p.parquet", COCO18)
    assert not list(folder.iterdir())


def test_a_video_without_frames_leaves_no_file(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 25, COCO18):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "fps", "reason"), [("out.gif", 25, "wanted one of .mp4"), ("out.mp4", 0, "wanted more than 0")])
def test_an_impossible_video_is_refused(tmp_path: Path, name: str, fps: int, reason: str) -> None:
    with pytest.raises(SinkError, match=reason):
        VideoSink(tmp_path / name, fps, COCO18)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_picture_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"wanted one of \.jpg \.png"):
        PictureSink(tmp_path, COCO18, suffix=".gif")


@pytest.mark.parametrize("kind", ["coco", "jsonl", "video"])
def test_an_output_appears_only_when_it_is_complete(tmp_path: Path, kind: str) -> None:
    with SINKS[kind](tmp_path) as sink:
        sink.write(_frame(), _everybody(COCO18))
        assert [p.name[0] for p in tmp_path.iterdir()] == ["."]
    assert [p.name for p in tmp_path.iterdir()] == [{"coco": "results.json", "jsonl": "poses.jsonl", "video": "out.mp4"}[kind]]
    sink.close()
    sink.discard()
    assert len(list(tmp_path.iterdir())) == 1, "closing twice, and discarding what is complete, do nothing"


@pytest.mark.parametrize("kind", ["coco", "jsonl", "video"])
def test_an_exception_leaves_nothing_half_written(tmp_path: Path, kind: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write_until(SINKS[kind](tmp_path), KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["coco", "jsonl", "video"])
def test_an_earlier_output_stands_until_the_new_one_is_complete(tmp_path: Path, kind: str) -> None:
    for _ in range(2):
        with SINKS[kind](tmp_path) as sink:
            sink.write(_frame(), _everybody(COCO18))
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"):
        _write_until(SINKS[kind](tmp_path), RuntimeError("stop"))
    assert path.read_bytes() == before


@every_sink
def test_a_file_in_the_place_of_the_folder_is_an_error_in_one_line(tmp_path: Path, make: Maker) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SinkError, match="cannot be made") as error:
        make(tmp_path / "taken")
    assert "\n" not in str(error.value)


@every_sink
def test_a_folder_without_permission_is_an_error_in_one_line(tmp_path: Path, make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, as in a container, may write anywhere
    with pytest.raises(SinkError, match="no permission") as error:
        make(tmp_path)
    assert "\n" not in str(error.value)


@every_sink
def test_a_full_disk_is_an_error_in_one_line_and_leaves_nothing(tmp_path: Path, make: Maker) -> None:
    with pytest.raises(SinkError, match="cannot be written") as error, _full_disk(64):
        _write_until(make(tmp_path), None, frames=40)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["coco", "openpose", "jsonl"])
def test_poses_of_another_skeleton_are_a_mistake_of_the_caller(tmp_path: Path, kind: str) -> None:
    with SINKS[kind](tmp_path) as sink, pytest.raises(ValueError, match="skeleton of 18 keypoints"):
        sink.write(_frame(), no_poses(15))


@pytest.mark.parametrize("kind", ["coco", "jsonl", "parquet", "video"])
def test_one_file_is_written_by_one_program_at_a_time(tmp_path: Path, kind: str) -> None:
    with SINKS[kind](tmp_path) as sink:
        sink.write(_frame(), _everybody(COCO18))
        with pytest.raises(SinkError, match="another program writes it"):
            SINKS[kind](tmp_path)
        sink.write(_frame(index=1), _everybody(COCO18))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size > 0
    with SINKS[kind](tmp_path) as sink:
        sink.write(_frame(), _everybody(COCO18))


@pytest.mark.parametrize("kind", ["coco", "jsonl", "parquet", "video"])
def test_a_folder_in_the_place_of_the_file_is_an_error_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    name = {"coco": "results.json", "jsonl": "poses.jsonl", "parquet": "poses.parquet", "video": "out.mp4"}[kind]
    (tmp_path / name).mkdir()
    with pytest.raises(SinkError, match="there is a folder of that name"):
        SINKS[kind](tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
