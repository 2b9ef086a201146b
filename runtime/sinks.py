"""Where results go: pictures and videos with the poses drawn in, OpenPose JSON, COCO results, JSON Lines."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO, TypeVar

import av
import cv2
import numpy as np
import orjson
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from edgepose.engines.errors import SinkError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.coco import coco17_from
from edgepose.runtime.complete_file import Claim, Closable, completed, drop, hidden, make_folder, told, write_complete
from edgepose.runtime.overlay import draw_poses
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import Frame

S = TypeVar("S", bound="Sink")

OVERLAY_SUFFIXES = (".jpg", ".png")
CONTAINER_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
MOST_FPS = 1000
_TICKS_PER_S = 60_000  # whole ticks at the usual rates, and within MPEG-4 part 2's 16 bits
_MOST_TICKS = 2**31 - 1
"""That MP4 and its kin show a picture for: 9.9 hours."""
_ABSENT_IN_OPENPOSE = tuple(
    f"{part}_keypoints_{axes}" for axes in ("2d", "3d") for part in ("pose", "face", "hand_left", "hand_right") if part + axes != "pose2d"
)


class Sink(Protocol):
    """Takes frames in order, with their poses in picture pixels. As a context manager it closes at the end, or discards on an exception.

    Every method raises SinkError, in one line, for what cannot be written, and so does opening one for a file that another program writes
    at that moment. Not for use from two threads at once.
    """

    def write(self, frame: Frame, poses: Poses) -> None: ...

    def close(self) -> None:
        """Completes the output and gives it its name; a second call does nothing, nor does any where each frame has its own file."""
        return

    def discard(self) -> None:
        """Drops what is not complete; frames that have their own files stay."""
        return

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close() if kind is None else self.discard()


class PictureSink(Sink):
    """One picture per frame, `FOLDER/NAME.jpg` (quality 92) or `.png`, with the poses drawn in; the folder is made."""

    def __init__(self, folder: Path, skeleton: Skeleton, *, scores: bool = False, suffix: str = ".jpg") -> None:
        if suffix not in OVERLAY_SUFFIXES:
            raise SinkError(f"{folder}: pictures with suffix {suffix!r}: wanted one of {' '.join(OVERLAY_SUFFIXES)}")
        make_folder(folder)
        self._folder, self._skeleton, self._scores, self._suffix = folder, skeleton, scores, suffix

    def write(self, frame: Frame, poses: Poses) -> None:
        picture = draw_poses(frame.picture, poses, self._skeleton, scores=self._scores)
        path = self._folder / f"{frame.name}{self._suffix}"
        write_complete(path, _encoded(path, picture))


class OpenPoseJsonSink(Sink):
    """One `FOLDER/NAME_keypoints.json` per frame in OpenPose's output format 1.3, keypoints in the network's order.

    x and y keep our convention (a pixel's centre lies at number + 0.5), which is OpenPose's too: its peaks get half an output pixel
    (`setOffset(0.5 / scaleNetToOutput)` in poseExtractorCaffe.cpp).
    """

    def __init__(self, folder: Path, skeleton: Skeleton) -> None:
        make_folder(folder)
        self._folder, self._skeleton = folder, skeleton

    def write(self, frame: Frame, poses: Poses) -> None:
        check_keypoints(poses, self._skeleton)
        found = np.where(poses.present[..., None], poses.keypoints, 0)
        ids = [-1] * len(poses) if poses.ids is None else poses.ids.tolist()
        people = [_openpose_person(keypoints, person) for keypoints, person in zip(_rounded(found, 4), ids, strict=True)]
        write_complete(self._folder / f"{frame.name}_keypoints.json", orjson.dumps({"version": 1.3, "people": people}))


class FileSink(Sink):
    """One file, which gets its name when it is complete."""

    _file: Closable

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        make_folder(path.parent)
        self._claim = Claim(path)
        self._path, self._skeleton, self._open = path, skeleton, True

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            with completed(self._path):
                try:
                    self._finish()
                finally:
                    self._file.close()
        finally:
            self._claim.release()

    def discard(self) -> None:
        if self._open:
            self._open = False
            drop(self._path, self._file)
            self._claim.release()

    def _finish(self) -> None:
        """What is written last."""


class TextSink(FileSink):
    """One text file."""

    def __init__(self, path: Path, skeleton: Skeleton, buffering: int = -1) -> None:
        super().__init__(path, skeleton)
        with self._claim.opening():
            self._file: TextIO = hidden(path).open("w", encoding="utf-8", buffering=buffering)


class CocoResultsSink(TextSink):
    """A COCO results file: a list of {image_id, category_id: 1, keypoints, score}, as `COCO.loadRes` of pycocotools takes it.

    `keypoints` are the 51 numbers x, y, v of `coco17_from`, so in COCO's convention, where a pixel's centre is a whole number: ours less
    0.5. v is 1 where a keypoint was found (COCO asks for 1 in results), else all three are 0. `image_id` is the frame's name where all
    are whole numbers (`numbered`), as COCO's file names are, else its index.
    """

    _separator = "[\n"

    def __init__(self, path: Path, skeleton: Skeleton, *, numbered: bool = False) -> None:
        super().__init__(path, skeleton)
        self._numbered = numbered

    def write(self, frame: Frame, poses: Poses) -> None:
        check_keypoints(poses, self._skeleton)
        image_id = int(frame.name) if self._numbered else frame.index
        with told(self._path):
            for keypoints, score in zip(coco17_from(poses, self._skeleton), poses.scores, strict=True):
                self._file.write(self._separator + json.dumps(_coco_result(image_id, keypoints, float(score)), separators=(",", ":")))
                self._separator = ",\n"

    def _finish(self) -> None:
        self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")


class JsonLinesSink(TextSink):
    """One JSON object a line and frame: name, index, time_s, and people with id (null where not tracked), score and keypoints.

    `keypoints` are [x, y, confidence] in the network's order, in picture pixels of our convention, null where absent. Each line is written
    out as it comes, so that another program can follow; the file gets its name at the end.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        super().__init__(path, skeleton, buffering=1)

    def write(self, frame: Frame, poses: Poses) -> None:
        check_keypoints(poses, self._skeleton)
        line = {"name": frame.name, "index": frame.index, "time_s": frame.time_s, "people": people_as_json(poses)}
        with told(self._path):
            self._file.write(orjson.dumps(line).decode() + "\n")


def people_as_json(poses: Poses) -> list[dict[str, Any]]:
    """Each person's id (None where not tracked), score, and keypoints [x, y, confidence], None where absent."""
    ids = [None] * len(poses) if poses.ids is None else poses.ids.tolist()
    return [
        {"id": person, "score": score, "keypoints": [xyc if xyc[2] > 0 else None for xyc in keypoints]}
        for person, score, keypoints in zip(ids, _rounded(poses.scores, 6), _rounded(poses.keypoints, 4), strict=True)
    ]


class VideoSink(Sink):
    """A video with the poses drawn in: H.264 (libx264) where this PyAV has it, else MPEG-4 part 2; yuv420p, without sound.

    Frames keep their `time_s`; one without, or one that does not come after its predecessor, is put 1 / `fps` or one tick after it. A pause
    that is longer than the format can hold, as of a camera that was away over night, is left out. All
    frames must have the first one's size, or with `scaled` are brought to it; an odd last row or column is doubled, because the format
    wants even sizes. Without a single frame no file is made.
    """

    def __init__(self, path: Path, fps: Fraction | float, skeleton: Skeleton, *, scores: bool = False, scaled: bool = False) -> None:
        if path.suffix.lower() not in CONTAINER_SUFFIXES:
            raise SinkError(f"{path}: suffix {path.suffix!r} is unknown: wanted one of {' '.join(CONTAINER_SUFFIXES)}")
        if not 0 < fps < MOST_FPS:
            raise SinkError(f"{path}: {float(fps):g} frames/s: wanted more than 0 and fewer than {MOST_FPS}")
        make_folder(path.parent)
        self._scaled = scaled
        self._path, self._fps, self._skeleton, self._scores = path, Fraction(fps).limit_denominator(1001), skeleton, scores
        self._wh, self._ticks, self._left_out, self._converter = (0, 0), -1, 0, VideoReformatter()
        self._stream: VideoStream | None = None
        self._claim = Claim(path)
        with self._claim.opening():
            self._container: OutputContainer | None = av.open(str(hidden(path)), "w", container_options=_container_options(path))

    def write(self, frame: Frame, poses: Poses) -> None:
        if self._container is None:
            raise ValueError(f"{self._path} is closed")
        wh = frame.picture.shape[1], frame.picture.shape[0]
        if self._stream is None:
            self._wh, self._stream = wh, _stream_in(self._container, wh, self._fps)
        if wh != self._wh and not self._scaled:
            raise SinkError(f"{self._path}: frame {frame.name} is {wh[0]} x {wh[1]} pixels in a video of {self._wh[0]} x {self._wh[1]}")
        picture = draw_poses(frame.picture, poses, self._skeleton, scores=self._scores)
        if wh != self._wh:
            picture = np.asarray(cv2.resize(picture, self._wh, interpolation=cv2.INTER_AREA), np.uint8)
        with told(self._path):
            self._container.mux(self._stream.encode(self._timed(picture, frame.time_s)))

    def _timed(self, picture: NDArray[np.uint8], time_s: float | None) -> av.VideoFrame:
        step = round(_TICKS_PER_S / self._fps)
        following = 0 if self._ticks < 0 else self._ticks + step
        due = following if time_s is None else round(time_s * _TICKS_PER_S) - self._left_out
        if due - self._ticks > _MOST_TICKS:
            self._left_out, due = self._left_out + due - following, following
        self._ticks = max(self._ticks + 1, due)
        bgr = av.VideoFrame.from_ndarray(_even(picture), format="bgr24")
        timed = self._converter.reformat(
            bgr, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        timed.pts, timed.duration, timed.time_base = self._ticks, step, Fraction(1, _TICKS_PER_S)
        return timed

    def close(self) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        try:
            if self._stream is None:
                drop(self._path, container)
            else:
                self._complete(container, self._stream)
        finally:
            self._claim.release()

    def _complete(self, container: OutputContainer, stream: VideoStream) -> None:
        with completed(self._path):
            try:
                container.mux(stream.encode())
            finally:
                container.close()

    def discard(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            drop(self._path, container)
            self._claim.release()


def _stream_in(container: OutputContainer, picture_wh: tuple[int, int], fps: Fraction) -> VideoStream:
    """A stream of even size in BT.709, said so in the file: players guess otherwise, by size."""
    if "libx264" in av.codecs_available:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "veryfast"})
    else:
        stream = container.add_stream("mpeg4", rate=fps, options={"qscale": "3"})
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = (size + size % 2 for size in picture_wh)
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, _TICKS_PER_S)
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _container_options(path: Path) -> dict[str, str]:
    """The index in front, so that a browser starts to play at once, in the formats that have one."""
    return {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if height % 2 == width % 2 == 0:
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)


def _encoded(path: Path, picture: NDArray[np.uint8]) -> bytes:
    suffix = path.suffix
    with told(path):
        encoded, data = cv2.imencode(suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 92] if suffix == ".jpg" else [])
    if not encoded:
        raise SinkError(f"{path}: OpenCV cannot encode a picture of {picture.shape[1]} x {picture.shape[0]} pixels")
    return data.tobytes()


def _openpose_person(keypoints: list[list[float]], person: int) -> dict[str, list[float]]:
    """`keypoints` [x, y, confidence] with zeros where absent; `person` is -1 where people are not tracked."""
    flat = [value for keypoint in keypoints for value in keypoint]
    return {"person_id": [person], "pose_keypoints_2d": flat, **{name: [] for name in _ABSENT_IN_OPENPOSE}}


def _coco_result(image_id: int, keypoints: NDArray[np.float32], score: float) -> dict[str, object]:
    """`keypoints` (17, 3) of `coco17_from`."""
    flat = [n for x, y, c in keypoints.tolist() for n in (round(x, 3), round(y, 3), int(c > 0))]
    return {"image_id": image_id, "category_id": 1, "keypoints": flat, "score": round(score, 6)}


def _rounded(values: NDArray[np.float32], digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded


def check_keypoints(poses: Poses, skeleton: Skeleton) -> None:
    if poses.keypoints.shape[1:] != (len(skeleton.keypoints), 3):
        raise ValueError(f"poses of shape {poses.keypoints.shape} for a skeleton of {len(skeleton.keypoints)} keypoints")
