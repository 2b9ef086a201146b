"""Pictures, folders and videos as sources of frames."""

from __future__ import annotations

import os
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.stream import VideoStream

from edgepose.engines.errors import SourceError
from edgepose.runtime.sources import FileClock, PictureSource, VideoSource, open_source, picture_from_file

GRADIENT = np.stack(np.broadcast_arrays(np.arange(0, 64, 2)[:, None], np.arange(0, 96, 2), 200), -1).astype(np.uint8)
RED = (0, 0, 255)


def _write(path: Path, picture: np.ndarray = GRADIENT) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def _write_video(path: Path, times_ms: list[int], rotation: int | None = None) -> Path:
    """64 x 48 pixels, the upper left corner red."""
    picture = np.full((48, 64, 3), 90, np.uint8)
    picture[:16, :16] = RED
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for time_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _is_one_line(error: pytest.ExceptionInfo[SourceError], path: Path) -> bool:
    return "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_a_picture_is_one_frame_named_by_its_stem(tmp_path: Path) -> None:
    source = open_source(_write(tmp_path / "zebra.png"))
    (frame,) = source.frames()
    assert (source.count, source.is_video, source.fps) == (1, False, None)
    assert (frame.name, frame.index, frame.time_s) == ("zebra", 0, None)
    np.testing.assert_array_equal(frame.picture, GRADIENT)
    assert frame.picture.flags.c_contiguous
    assert frame.picture.flags.writeable


def test_a_folder_is_read_in_natural_order_and_only_its_visible_pictures(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "1.jpg", ".3.png"):
        _write(tmp_path / name)
    (tmp_path / "2.png").rename(tmp_path / "2.PNG")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "4.png").mkdir()
    source = open_source(tmp_path)
    assert source.count == 3
    assert [(f.name, f.index) for f in source.frames()] == [("1", 0), ("2", 1), ("10", 2)]
    assert [f.name for f in source.frames()] == ["1", "2", "10"], "a source can be read again"


def test_pictures_that_share_a_stem_keep_their_suffix_in_the_name(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        _write(tmp_path / name)
    assert [f.name for f in open_source(tmp_path).frames()] == ["a.jpg", "a.png", "b"]
    _write(tmp_path / "a.jpg.png")
    assert [f.name for f in open_source(tmp_path).frames()] == ["a.jpg", "a.jpg.png", "a.png", "b"]


@pytest.mark.parametrize(("names", "numbered"), [(("1", "20"), True), (("1", "01"), False), (("1", "cat"), False)])
def test_pictures_are_numbered_where_each_name_is_another_number(tmp_path: Path, names: tuple[str, ...], numbered: bool) -> None:
    for name in names:
        _write(tmp_path / f"{name}.png")
    source = open_source(tmp_path)
    assert isinstance(source, PictureSource)
    assert source.numbered is numbered


def test_a_real_folder_of_photographs_is_read(assets: Path) -> None:
    source = open_source(assets / "coco" / "val")
    frames = list(islice(source.frames(), 3))
    assert source.count == 100
    assert all(f.name.isdecimal() and f.picture.ndim == 3 and f.picture.dtype == np.uint8 for f in frames)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (np.full((4, 6), 77, np.uint8), (77, 77, 77)),
        (np.full((4, 6), 0x8000, np.uint16), (128, 128, 128)),
        (np.full((4, 6, 4), (10, 20, 30, 5), np.uint8), (10, 20, 30)),
        (np.full((4, 6, 3), (0x1000, 0x2000, 0xFFFF), np.uint16), (16, 32, 255)),
    ],
    ids=["grey", "grey of 16 bits", "with alpha", "colour of 16 bits"],
)
def test_every_kind_of_picture_becomes_bgr_of_8_bits(tmp_path: Path, stored: np.ndarray, wanted: tuple[int, int, int]) -> None:
    picture = picture_from_file(_write(tmp_path / "kind.png", stored))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.full((4, 6, 3), wanted))


def test_the_exif_orientation_turns_a_picture_upright(tmp_path: Path) -> None:
    jpeg = _write(tmp_path / "plain.jpg", np.zeros((8, 24, 3), np.uint8)).read_bytes()
    turned_right = bytes.fromhex("ffe1 0022 457869660000 4d4d002a00000008 0001 0112 0003 00000001 00060000 00000000")
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + turned_right + jpeg[2:])
    assert picture_from_file(path).shape == (24, 8, 3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder") as error:
        open_source(tmp_path / "nowhere.jpg")
    assert _is_one_line(error, tmp_path)


def test_what_is_neither_file_nor_folder_is_refused_before_it_is_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes into, or whose content the first look took."""
    pipe = tmp_path / "video.mp4"
    os.mkfifo(pipe)
    with pytest.raises(SourceError, match="a pipe or device: wanted a file") as error:
        open_source(pipe)
    assert _is_one_line(error, tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no picture in this folder: wanted files with one of jpg jpeg png") as error:
        open_source(tmp_path)
    assert _is_one_line(error, tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "noextension"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(SourceError, match=r"is unknown: wanted .* jpg .* mp4 ") as error:
        open_source(tmp_path / name)
    assert _is_one_line(error, tmp_path / name)


@pytest.mark.parametrize(("content", "reason"), [(b"hello, I am text\n" * 20, "not a picture"), (b"", "empty")])
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "false.jpg"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as error:
        list(open_source(path).frames())
    assert _is_one_line(error, path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    path = _write(tmp_path / f"cut{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="cut short") as error:
        picture_from_file(path)
    assert _is_one_line(error, path)


def test_a_picture_of_absurd_size_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = _write(tmp_path / "bomb.bmp")
    content = bytearray(path.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(SourceError, match="more pixels than OpenCV's limit") as error:
        picture_from_file(path)
    assert _is_one_line(error, path)


def test_a_bad_picture_stops_a_folder_where_it_stands(tmp_path: Path) -> None:
    _write(tmp_path / "1.png")
    (tmp_path / "2.png").write_text("text")
    _write(tmp_path / "3.png")
    frames = open_source(tmp_path).frames()
    assert next(frames).name == "1"
    with pytest.raises(SourceError, match=r"2\.png"):
        next(frames)


def test_a_real_video_gives_every_frame_in_order_with_its_time(assets: Path) -> None:
    source = open_source(assets / "video" / "single_360x360.mp4")
    assert isinstance(source, VideoSource)
    assert (source.count, source.is_video, source.fps) == (140, True, 25)
    frames = list(source.frames())
    assert [f.index for f in frames] == list(range(140))
    assert frames[12].name == "single_360x360_000000000012"
    assert [f.time_s for f in frames] == pytest.approx([i / 25 for i in range(140)])
    assert {f.picture.shape for f in frames} == {(360, 360, 3)}
    assert all(f.picture.flags.c_contiguous and f.picture.dtype == np.uint8 for f in frames)


def test_a_video_can_be_left_early_and_read_again(assets: Path) -> None:
    source = open_source(assets / "video" / "exercise_1280x720.mp4")
    first, again = (list(islice(source.frames(), 2)) for _ in range(2))
    assert source.count == 381
    assert first[0].picture.shape == (720, 1280, 3)
    np.testing.assert_array_equal(first[1].picture, again[1].picture)


def test_times_of_a_variable_frame_rate_are_kept(tmp_path: Path) -> None:
    times_ms = [0, 10, 200, 230, 900]
    frames = open_source(_write_video(tmp_path / "variable.mkv", times_ms)).frames()
    assert [f.time_s for f in frames] == pytest.approx([t / 1000 for t in times_ms])


def test_the_length_is_estimated_where_the_container_does_not_count(tmp_path: Path) -> None:
    source = open_source(_write_video(tmp_path / "uncounted.mkv", list(range(0, 1000, 40))))
    assert source.count == pytest.approx(25, abs=1)
    assert source.fps == pytest.approx(25, rel=0.05)


@pytest.mark.skipif(not hasattr(VideoStream, "set_display_rotation"), reason="this PyAV cannot write a rotated video")
@pytest.mark.parametrize(("rotation", "corner"), [(None, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_the_display_rotation_turns_a_video_upright(tmp_path: Path, rotation: int | None, corner: tuple[int, int]) -> None:
    frame = next(open_source(_write_video(tmp_path / "turned.mp4", [0, 40], rotation)).frames())
    assert frame.picture.shape == ((48, 64, 3) if rotation in (None, 180) else (64, 48, 3))
    np.testing.assert_allclose(frame.picture[corner], RED, atol=30)
    assert frame.picture.flags.c_contiguous


@pytest.mark.parametrize("content", [b"hello, I am text\n" * 20, b""], ids=["text", "empty"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "false.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="FFmpeg cannot open it") as error:
        open_source(path)
    assert _is_one_line(error, path)


def test_a_video_whose_title_is_not_utf8_is_read(tmp_path: Path) -> None:
    """As older recorders write their AVI files."""
    path = _write_video(tmp_path / "door.avi", [0, 40])
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"T\xfcr ", 1))
    assert b"T\xfcr" in path.read_bytes() and len(list(open_source(path).frames())) == 2


def test_a_video_without_its_index_is_refused(tmp_path: Path, assets: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes((assets / "video" / "single_360x360.mp4").read_bytes()[:60_000])
    with pytest.raises(SourceError, match="is it cut short") as error:
        open_source(path)
    assert _is_one_line(error, path)


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(SourceError, match="no video stream") as error:
        open_source(path)
    assert _is_one_line(error, path)


def test_a_video_that_ends_early_is_said_to_be_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = _write_video(tmp_path / "whole.mkv", list(range(0, 4000, 40)))
    path = tmp_path / "torn.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = list(open_source(path).frames())
    assert 0 < len(frames) < 90
    assert "of 4.0 s; is it cut short?" in caplog.text


def test_a_whole_file_of_variable_frame_rate_is_not_said_to_be_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Many frames in its first second, few after that: its average rate promises more than there are."""
    times_ms = [*range(0, 1000, 20), *range(1000, 12_000, 500)]
    assert len(list(open_source(_write_video(tmp_path / "vfr.mkv", times_ms)).frames())) == len(times_ms)
    assert not caplog.text


def test_a_video_that_was_trimmed_is_not_said_to_be_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As telephones do it: what is cut off in front stays in the file, before its time zero."""
    assert len(list(open_source(_write_video(tmp_path / "trimmed.mp4", list(range(-1000, 1000, 40)))).frames())) == 25
    assert not caplog.text


def test_what_cannot_be_decoded_is_left_out_and_said(tmp_path: Path, assets: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray((assets / "video" / "single_360x360.mp4").read_bytes())
    content[100_000:140_000] = np.random.default_rng(0).bytes(40_000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    frames = list(open_source(path).frames())
    assert 50 < len(frames) < 140
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert f"packets could not be decoded, {len(frames)} frames could" in caplog.text


def test_a_video_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path, assets: Path) -> None:
    content = bytearray((assets / "video" / "single_360x360.mp4").read_bytes())
    place = content.index(b"mdat") + 4
    content[place : place + 250_000] = bytes(250_000)
    path = tmp_path / "zeros.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="can be decoded") as error:
        list(open_source(path).frames())
    assert _is_one_line(error, path)


def test_times_advance_whatever_the_file_says() -> None:
    """A frame without a time, a file joined to itself, frames in the order of decoding."""
    clock = FileClock(Fraction(1, 25), 100.0)
    told: list[float | None] = [100.0, 100.04, None, 100.12, 100.0, 100.04, 100.4, 100.3]
    assert [clock.at(time_s) for time_s in told] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.4, 0.44])
