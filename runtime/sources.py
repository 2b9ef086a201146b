"""What `pose-run` reads: a picture, a folder of pictures, or a video file."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
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

_STEP_WHERE_UNKNOWN_S = 0.04
_WHOLE = 0.95
"""Of the frames or seconds that a file announces, which are estimates now and then."""
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    `picture` is uint8 (H, W, 3), BGR, C-contiguous, upright; nobody else holds it. `name` is stable, unique within its source and fit for
    a file name: a picture's stem (its whole file name where two share a stem), or `VIDEO_000000000012`. `time_s` is a video frame's
    presentation time since the start of its stream, later than the frame before it; None for pictures. `captured_ns` is when the picture
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
    def numbered(self) -> bool:
        """Whether the names are whole numbers, no two the same one, as COCO's are."""
        names = _names(self.paths)
        return all(map(str.isdecimal, names)) and len({int(name) for name in names}) == len(names)

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
        """What cannot be decoded is left out and logged."""
        with opened(self.path) as stream:
            stream.thread_type = "AUTO"
            name, converter, decoded = as_utf8(self.path.stem), VideoReformatter(), _Decoded(self.path, stream)
            start_s = float((stream.start_time or 0) * (stream.time_base or 0))
            clock = FileClock(1 / self.fps if self.fps else _STEP_WHERE_UNKNOWN_S, start_s)
            for index, frame in enumerate(decoded):
                yield Frame(upright(frame, converter), f"{name}_{index:012d}", index, clock.at(frame.time))
            decoded.judge(clock.end_s)


class FileClock:
    """Seconds since the start of a stream, always advancing: by what the file says, or `step_s` after the last frame where it says nothing
    or goes back, as joined files do, and AVI with frames that are not in the order of display."""

    def __init__(self, step_s: float | Fraction, start_s: float) -> None:
        self._step_s, self._start_s = float(step_s), start_s
        self.last_s = -self._step_s

    @property
    def end_s(self) -> float:
        """Of the last frame."""
        return self.last_s + self._step_s

    def at(self, time_s: float | None) -> float:
        since_s = -math.inf if time_s is None else time_s - self._start_s
        self.last_s = since_s if since_s > self.last_s else self.last_s + self._step_s
        return self.last_s


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
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a folder above it that is somebody else's, say
        raise SourceError(f"{path}: {error.strerror}") from error
    if is_folder:
        return PictureSource(_pictures_in(path))
    if not is_there:
        raise SourceError(f"{path}: no such file or folder")
    if not path.is_file():
        raise SourceError(f"{path}: a pipe or device: wanted a file or folder, or for a camera v4l2:///dev/video0")
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
    """Stems; whole file names where two would be the same, on file systems that do not tell capitals too."""
    whole: set[int] = set()
    while True:
        names = [path.name if place in whole else path.stem for place, path in enumerate(paths)]
        times = Counter(map(str.lower, names))
        double = {place for place, name in enumerate(names) if times[name.lower()] > 1}
        if double <= whole:
            return list(map(as_utf8, names))
        whole |= double


def as_utf8(name: str) -> str:
    """Results are UTF-8, file names need not be: a byte that is not becomes `\\xdf`, so that names that differ go on doing so."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
        container = av.open(str(place), format=kind, options=dict(options or {}), metadata_errors="replace", timeout=patience_s)
    except av.error.ExitError as error:
        raise SourceError(f"{name or place}: nothing came from it for {patience_s:g} s") from error
    except (FFmpegError, OSError) as error:
        hint = "" if kind or is_uri(str(place)) else "; is it cut short, or not a video?"
        raise SourceError(f"{name or place}: FFmpeg cannot open it ({_reason(error)}){hint}") from error
    with container:
        if not container.streams.video:
            raise SourceError(f"{name or place}: no video stream in it")
        yield container.streams.video[0]


class _Decoded:
    """A stream's frames, without what cannot be decoded."""

    def __init__(self, path: Path, stream: VideoStream) -> None:
        self._path, self._stream = path, stream
        self._frames = self._broken = 0

    def __iter__(self) -> Iterator[av.VideoFrame]:
        container = self._stream.container
        assert isinstance(container, InputContainer)
        try:
            for packet in container.demux(self._stream):
                for frame in self._decoded(packet):
                    self._frames += 1
                    yield frame
        except FFmpegError as error:
            kind = SourceLost if self._frames else SourceError
            raise kind(f"{self._path}: cannot be read after {self._frames} frames ({_reason(error)})") from error

    def _decoded(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.InvalidDataError:
            self._broken += 1
            return []

    def judge(self, end_s: float) -> None:
        """Logs what is missing of a stream whose last frame went on until `end_s`. Raises SourceError where everything is."""
        if not self._frames:
            why = f"none of its {self._broken} packets can be decoded" if self._broken else "holds no video frame"
            raise SourceError(f"{self._path}: {why}")
        counted, length_s = self._stream.frames, _duration_s(self._stream)
        if self._broken:
            logger.warning("%s: damaged: %d packets could not be decoded, %d frames could", self._path, self._broken, self._frames)
        elif counted and self._frames < _WHOLE * counted and (not length_s or end_s < _WHOLE * length_s):  # else it was trimmed
            logger.warning("%s: ended after %d of %d frames; is it cut short?", self._path, self._frames, counted)
        elif not counted and end_s < _WHOLE * length_s - 1:
            logger.warning("%s: ended after %.1f of %.1f s; is it cut short?", self._path, end_s, length_s)


def upright(frame: av.VideoFrame, converter: VideoReformatter) -> NDArray[np.uint8]:
    """One converter for a whole video and one thread: threads started anew for each picture cost more than the conversion."""
    bgr = converter.reformat(frame, format="bgr24", threads=1)
    picture: NDArray[np.uint8] = np.ascontiguousarray(bgr.to_ndarray(), np.uint8)
    turn = _TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return picture if turn is None else np.ascontiguousarray(cv2.rotate(picture, turn), np.uint8)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
