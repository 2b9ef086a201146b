"""What `pose-run` reads: a picture, a folder of pictures, or a video file."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count as counting
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from edgepose.engines.errors import SourceError, SourceLost

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp")

_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    `picture` is uint8 (H, W, 3), BGR, C-contiguous, upright; nobody else holds it. `name` is stable, unique within its source and fit for
    a file name: a picture's stem (its whole file name where two share a stem), or `VIDEO_000000000012`. `time_s` is a video frame's
    presentation time since the start of its stream, None for pictures and where the file does not say. `captured_ns` is when the picture
    was there, by `perf_counter_ns`.
    """

    picture: NDArray[np.uint8]
    name: str
    index: int
    time_s: float | None
    captured_ns: int = field(default_factory=perf_counter_ns)

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.picture.shape[1], self.picture.shape[0]


class Source(Protocol):
    """Frames in order. `count` is how many there are, an estimate for video, or None; `fps` is a video's average rate where it is known.
    One that `is_live` does not wait for its reader.
    """

    @property
    def count(self) -> int | None: ...
    @property
    def is_video(self) -> bool: ...
    @property
    def is_live(self) -> bool: ...
    @property
    def fps(self) -> Fraction | None: ...
    def frames(self) -> Iterator[Frame]:
        """From the start, anew at each call. Raises SourceError for what cannot be read, SourceLost where a video breaks off."""
        ...


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Picture files; one that cannot be read raises SourceError when its turn comes. Reading is `picture_from_file`."""

    paths: tuple[Path, ...]

    @property
    def count(self) -> int:
        return len(self.paths)

    @property
    def is_video(self) -> bool:
        return False

    @property
    def is_live(self) -> bool:
        return False

    @property
    def fps(self) -> None:
        return None

    def frames(self) -> Iterator[Frame]:
        for index, (path, name) in enumerate(zip(self.paths, _names(self.paths), strict=True)):
            yield Frame(picture_from_file(path), name, index, None)


@dataclass(frozen=True, slots=True)
class VideoSource:
    """The first video stream of a file, decoded by FFmpeg's frame threads; display rotation is applied, mirroring is not."""

    path: Path
    count: int | None
    fps: Fraction | None

    @property
    def is_video(self) -> bool:
        return True

    @property
    def is_live(self) -> bool:
        return False

    def frames(self) -> Iterator[Frame]:
        with opened(self.path) as stream:
            stream.thread_type = "AUTO"
            start_s = float((stream.start_time or 0) * (stream.time_base or 0))
            converter, read = VideoReformatter(), 0
            for frame in _decoded(self.path, stream):
                time_s = None if frame.time is None else frame.time - start_s
                yield Frame(upright(frame, converter), f"{self.path.stem}_{read:012d}", read, time_s)
                read += 1
        if not read:
            raise SourceError(f"{self.path}: holds no video frame")
        if self.count and read < 0.95 * self.count:
            logger.warning("%s: ended after %d of about %d frames; is it cut short?", self.path, read, self.count)


@runtime_checkable
class Stoppable(Protocol):
    """A source whose `frames` may wait for long without giving one."""

    def stop(self) -> None: ...


def open_source(place: Path | str) -> Source:
    """A picture file, a folder of pictures (not its subfolders, hidden files skipped, natural order) or a video file, by its suffix.

    `test:pattern?...` is a camera that sees synthetic people, see `synthetic.Pattern`; `gst:DESCRIPTION` and what has a `://` are cameras
    and streams, see `camera`. Raises SourceError for what is missing, of unknown kind, an empty folder, or a video that FFmpeg
    cannot open; pictures are not looked into before `frames` reaches them, and cameras are not connected.
    """
    if str(place).startswith("test:"):
        return _pattern(str(place))
    if is_uri(str(place)):
        from edgepose.runtime.camera import live_source  # which gives frames, and so imports this file

        return live_source(str(place))
    path = Path(place)
    if path.is_dir():
        return PictureSource(_pictures_in(path))
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return PictureSource((path,))
    if suffix in VIDEO_SUFFIXES:
        return _video_from_file(path)
    known = " ".join(s[1:] for s in PICTURE_SUFFIXES + VIDEO_SUFFIXES)
    raise SourceError(f"{path}: suffix {suffix!r} is unknown: wanted a folder of pictures, or a file with one of {known}")


def is_uri(text: str) -> bool:
    """Whether it names a camera or stream instead of a file."""
    return "://" in text or text.startswith(("gst:", "test:"))


def _pattern(uri: str) -> Source:
    from edgepose.runtime.synthetic import Pattern, SyntheticSource  # which draws frames, and so imports this file

    what, _, settings = uri.partition("?")
    if what != "test:pattern":
        raise SourceError(f"{uri}: wanted test:pattern?KEY=VALUE&...")
    return SyntheticSource(Pattern.parse(dict(parse_qsl(settings, keep_blank_values=True)), uri))


def picture_from_file(path: Path) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) BGR, upright by its EXIF orientation; grey is repeated, alpha dropped, 16 bits scaled to 8.

    Raises SourceError for a missing, empty, torn or foreign file, and for one above OpenCV's limit of 2^30 pixels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    if not data.size:
        raise SourceError(f"{path}: the file is empty")
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        reason = "more pixels than OpenCV's limit" if "CV_IO_MAX_IMAGE" in str(error) else str(error.err)
        raise SourceError(f"{path}: OpenCV refuses the picture ({reason})") from error
    if picture is None:
        raise SourceError(f"{path}: not a picture that OpenCV can decode; is it cut short, or another kind of file?")
    return np.ascontiguousarray(picture, np.uint8)


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    try:
        paths = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise SourceError(f"{folder}: {error.strerror or error}") from error
    if not paths:
        raise SourceError(f"{folder}: no picture in this folder: wanted files with one of {' '.join(s[1:] for s in PICTURE_SUFFIXES)}")
    return tuple(sorted(paths, key=_natural))


def _natural(path: Path) -> tuple[list[int | str], str]:
    """Sort key under which `2.jpg` comes before `10.jpg`; digits stand at the odd places."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


def _names(paths: tuple[Path, ...]) -> list[str]:
    stems = [path.stem.lower() for path in paths]
    shared = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    names = [path.name if stem in shared else path.stem for path, stem in zip(paths, stems, strict=True)]
    return [name.encode("utf-8", "replace").decode() for name in names]  # results are UTF-8, file names need not be


def _video_from_file(path: Path) -> VideoSource:
    with opened(path) as stream:
        fps = stream.average_rate or stream.guessed_rate
        length = stream.frames
        if not length and fps:
            length = round(_duration_s(stream) * fps)
        return VideoSource(path, length or None, fps)


def _duration_s(stream: VideoStream) -> float:
    """The container's duration where the stream's own is not known; 0 where neither is."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    duration = stream.container.duration if isinstance(stream.container, InputContainer) else None
    return (duration or 0) / av.time_base


@contextmanager
def opened(
    place: Path | str,
    patience_s: float | None = None,
    kind: str | None = None,
    options: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Iterator[VideoStream]:
    """The first video stream of a file or URL; closed on leaving. `kind` and `options` are FFmpeg's, `name` is for messages.

    Raises SourceError, also where nothing comes for `patience_s`.
    """
    try:
        container = av.open(str(place), format=kind, options=dict(options or {}), timeout=patience_s)
    except (FFmpegError, OSError) as error:
        raise SourceError(f"{name or place}: FFmpeg cannot open it ({_reason(error)}); is it cut short, or not a video?") from error
    with container:
        if not container.streams.video:
            raise SourceError(f"{name or place}: no video stream in it")
        yield container.streams.video[0]


def _decoded(path: Path, stream: VideoStream) -> Iterator[av.VideoFrame]:
    container = stream.container
    assert isinstance(container, InputContainer)
    frames = container.decode(stream)
    for index in counting():
        try:
            frame = next(frames, None)
        except FFmpegError as error:
            kind = SourceLost if index else SourceError
            raise kind(f"{path}: cannot be decoded after {index} frames ({_reason(error)})") from error
        if frame is None:
            return
        yield frame


def upright(frame: av.VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
    """One converter for a whole video and one thread: threads started anew for each picture cost more than the conversion."""
    bgr = converter.reformat(frame, format="bgr24", threads=1)
    picture: NDArray[np.uint8] = np.ascontiguousarray(bgr.to_ndarray(), np.uint8)
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return picture if turn is None else np.ascontiguousarray(cv2.rotate(picture, turn), np.uint8)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
