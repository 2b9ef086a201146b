"""Calibration pictures: from a folder, a video, an array or a camera, always fitted as the runtime fits them."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.calibration.source import StreamSource, calibration_set
from edgepose.engines import Fit, InputContract
from edgepose.engines.errors import SourceError
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sources import Frame

CONTRACT = InputContract(
    name="picture", height=48, width=64, channels="BGR", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit=Fit.PAD_RIGHT_BOTTOM
)

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), np.uint8)
HUGE = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 9999, 9999, 3), }".ljust(128) + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(10):
        cv2.imwrite(str(tmp_path / f"{index}.png"), rng.integers(0, 256, (30 + index, 50, 3), np.uint8))
    return tmp_path


class Frames:
    """A video in memory."""

    count = None
    is_video = True
    fps = Fraction(30)

    def __init__(self, pictures: list[NDArray[np.uint8]]) -> None:
        self._pictures = pictures

    def frames(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._pictures):
            yield Frame(picture, f"frame{index}", index, index / 30)


def test_a_folder_is_drawn_by_its_seed_and_fitted_by_the_runtime(folder: Path) -> None:
    first, again, other = (calibration_set(str(folder), CONTRACT, 6, seed) for seed in (1, 1, 2))
    assert first.pictures.shape == (6, 48, 64, 3)
    assert first.names == again.names and first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    wanted = np.empty((48, 64, 3), np.uint8)
    picture = cv2.imread(str(folder / first.names[0]))
    assert picture is not None
    fit_into(wanted, np.asarray(picture, np.uint8), CONTRACT)
    np.testing.assert_array_equal(first.pictures[0], wanted)


def test_a_torn_picture_is_named(folder: Path) -> None:
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
    with pytest.raises(SourceError, match=r"3\.png"):
        calibration_set(str(folder), CONTRACT, 10, 0)


def test_frames_are_spread_over_a_video_and_near_duplicates_dropped() -> None:
    rng = np.random.default_rng(0)
    scenes = [cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (80, 60)) for _ in range(40)]
    noisy = [np.clip(scene.astype(int) + rng.integers(-3, 4, scene.shape), 0, 255).astype(np.uint8) for scene in scenes for _ in range(5)]
    names = [name for name, _ in StreamSource(Frames(noisy)).pick(CONTRACT, 10, 0)]
    scene_of = [int(name.removeprefix("frame")) // 5 for name in names]
    assert len(set(scene_of)) == 10
    assert scene_of == sorted(scene_of) and scene_of[0] < 5 and scene_of[-1] >= 30
    assert max(np.diff(scene_of)) <= 8
    still = StreamSource(Frames(noisy[:5]))
    assert len(list(still.pick(CONTRACT, 10, 0))) == 1


def test_an_array_is_read_and_a_wrong_one_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", pictures=PICTURES)
    assert len(calibration_set(str(tmp_path / "good.npz"), CONTRACT, 3, 0).pictures) == 3
    np.savez(tmp_path / "float.npz", pictures=PICTURES / 255)
    with pytest.raises(SourceError, match="uint8, BGR"):
        calibration_set(str(tmp_path / "float.npz"), CONTRACT, 3, 0)


def _savez(path: Path, **arrays: NDArray[Any]) -> bytes:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path.read_bytes()


def _zipped(path: Path, name: str, content: bytes) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path.read_bytes()


def _npy(path: Path) -> bytes:
    with path.open("wb") as file:
        np.save(file, PICTURES)
    return path.read_bytes()


def _torn_inside(path: Path) -> bytes:
    data = bytearray(_savez(path, pictures=PICTURES))
    data[200:300] = b"\xff" * 100
    return bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        lambda _: b"",
        lambda path: _savez(path, pictures=PICTURES)[:100],
        _torn_inside,
        _npy,
        lambda path: _savez(path, pictures=np.array([{}], object)),
        lambda path: _zipped(path, "pictures.npy", HUGE),
        lambda path: _zipped(path, "pictures.txt", b"no array"),
    ],
    ids=["empty", "cut short", "torn inside", "one array", "pickled", "absurd shape", "text"],
)
def test_a_file_that_holds_no_pictures_is_named_in_one_line(tmp_path: Path, content: Callable[[Path], bytes]) -> None:
    path = tmp_path / "odd.npz"
    path.write_bytes(content(path))
    with pytest.raises(SourceError, match=r"odd\.npz: ") as caught:
        calibration_set(str(path), CONTRACT, 3, 0)
    assert "\n" not in str(caught.value)


def test_names_that_are_not_utf_8_can_be_written_into_a_report(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe9b\xe9"))
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), PICTURES[0])
    (tmp_path / "a.png").rename(folder / os.fsdecode(b"\xff.png"))
    found = calibration_set(str(folder), CONTRACT, 1, 0)
    assert found.origin == str(tmp_path / r"b\xe9b\xe9") and found.names == (r"\xff.png",)


def transport_stream(video: Path, path: Path) -> Path:
    """The same packets in the container that network cameras send, which needs no seeking."""
    with av.open(str(video)) as source, av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def test_a_camera_is_recorded_by_its_url(assets: Path, tmp_path: Path) -> None:
    transport_stream(assets / "video" / "single_360x360.mp4", tmp_path / "camera.ts")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        found = calibration_set(f"http://admin:geheim@127.0.0.1:{server.server_port}/camera.ts", CONTRACT, 8, 0, 30.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert 1 < len(found.pictures) <= 8
    assert found.origin == f"http://admin:***@127.0.0.1:{server.server_port}/camera.ts", "reports are no place for a password"
    with pytest.raises(SourceError, match="FFmpeg cannot open"):
        calibration_set("http://127.0.0.1:9/nothing", CONTRACT, 8, 0, 1.0)
