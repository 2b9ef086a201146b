"""`LiveSource`: a camera or stream that FFmpeg opens, which comes back when it was lost.

A stream that ends, breaks off or says nothing for too long is opened anew, with growing pauses; what happened is counted in `health`. Data
that cannot be decoded is skipped, a picture of another size is taken as it is, a clock that jumps is set anew.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from urllib.parse import parse_qsl, urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from pydantic import Field

from edgepose.engines.errors import SourceError, SourceLost
from edgepose.engines.record import Record
from edgepose.runtime.sources import Frame, opened, upright

logger = logging.getLogger(__name__)
_SCHEMES: dict[str, dict[str, str]] = {
    "rtsp": {"rtsp_transport": "tcp", "fflags": "nobuffer"},
    "rtsps": {"rtsp_transport": "tcp", "fflags": "nobuffer"},
    "rtmp": {},
    "http": {},
    "https": {},
    "srt": {},
    "tcp": {},
    "udp": {},
}
"""With FFmpeg's options. RTSP over TCP: what UDP loses on the way are the lower halves of pictures."""
_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
_MOST_GARBAGE = 200
"""Packets in a row that cannot be decoded, after which the connection is given up."""
_DRIFT_S = 1.0
_FROZEN_S = 10.0
_SAMPLE = 16
"""Every so many rows and columns decide whether a picture is the same as the last."""


@dataclass(slots=True)
class Health:
    """What a live source went through: connections lost, packets that could not be decoded, clocks that jumped, and how often the picture
    stood still for 10 s. `lost` says why the last connection was."""

    reconnections: int = 0
    garbage: int = 0
    jumps: int = 0
    frozen: int = 0
    lost: str = ""


class VideoDevice(Record):
    """What `v4l2:///dev/video0?KEY=VALUE&...` may say: `size` WIDTHxHEIGHT, `fps`, and the pixel `format` (mjpeg, yuyv422, ...)."""

    size: str | None = Field(default=None, pattern=r"^\d+x\d+$")
    fps: float | None = Field(default=None, gt=0)
    format: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """FFmpeg's."""
        named = {"video_size": self.size, "framerate": self.fps, "input_format": self.format}
        return {name: str(value) for name, value in named.items() if value is not None}


def live_source(uri: str) -> LiveSource:
    """`v4l2:///dev/video0?...`, or a URL that FFmpeg knows (rtsp, http, udp, ...). Raises ConfigError, SourceError."""
    parts = urlsplit(uri)
    if parts.scheme == "v4l2":
        device = VideoDevice.parse(dict(parse_qsl(parts.query, keep_blank_values=True)), uri)
        return LiveSource(parts.path, "v4l2", device.options)
    if parts.scheme not in _SCHEMES:
        raise SourceError(f"{without_password(uri)}: {parts.scheme}:// is unknown: wanted v4l2:// or one of {' '.join(_SCHEMES)}")
    return LiveSource(uri, options=_SCHEMES[parts.scheme])


def without_password(url: str) -> str:
    """For messages: logs are no place for a camera's password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)


@dataclass(frozen=True, slots=True)
class LiveSource:
    """`url` as FFmpeg takes it; `format` and `options` are FFmpeg's. Nothing for `patience_s` is a lost connection. With `seconds` it is
    one connection, for so long at most."""

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 5.0
    seconds: float | None = None
    health: Health = field(default_factory=Health, compare=False)
    _stopped: Event = field(default_factory=Event, compare=False, repr=False)

    @property
    def name(self) -> str:
        return without_password(self.url)

    @property
    def count(self) -> None:
        return None

    @property
    def is_video(self) -> bool:
        return True

    @property
    def is_live(self) -> bool:
        return True

    @property
    def fps(self) -> None:
        return None

    def frames(self) -> Iterator[Frame]:
        """`time_s` counts from the first frame, by the stream's clock where it keeps time. Raises SourceError where the first connection
        fails; SourceLost where one for some `seconds` breaks off."""
        clock, stillness, index, pause = StreamClock(self.health), Stillness(self.health), 0, 0
        began: float | None = None
        while True:
            try:
                for picture, time_s in self._connection():
                    began = perf_counter() if began is None else began
                    arrived_s = perf_counter() - began
                    stillness.watch(picture, arrived_s)
                    yield Frame(picture, f"live_{index:012d}", index, clock.at(time_s, arrived_s))
                    index, pause = index + 1, 0
                    if self.seconds is not None and arrived_s >= self.seconds:
                        return
                if began is None:
                    raise SourceError(f"{self.name}: no picture comes from it")
                if self.seconds is not None:
                    return
                self.health.lost = "the stream ended"
            except SourceError as error:
                if began is None or self.seconds is not None:
                    raise
                self.health.lost = str(error)
            self.health.reconnections += 1
            clock.restart()
            logger.warning("%s: lost (%s): connecting again", self.name, self.health.lost)
            if self._stopped.wait(_PAUSES_S[pause] * random.uniform(0.75, 1.25)):  # so that many cameras do not come back at once
                return
            pause = min(pause + 1, len(_PAUSES_S) - 1)

    def stop(self) -> None:
        """Has `frames` end for good instead of connecting again. From any thread."""
        self._stopped.set()

    def _connection(self) -> Iterator[tuple[NDArray[np.uint8], float | None]]:
        """(picture, the stream's time) until it ends. Raises SourceError where it cannot be opened, SourceLost where it breaks off."""
        with opened(self.url, self.patience_s, self.format, self.options, self.name) as stream:
            stream.thread_type = "SLICE"  # threads by frame would hold back a frame each
            container, converter, broken = stream.container, VideoReformatter(), 0
            assert isinstance(container, InputContainer)
            try:
                for packet in container.demux(stream):
                    try:
                        for frame in packet.decode():
                            broken = 0
                            yield upright(frame, converter), frame.time
                    except av.InvalidDataError as error:
                        self.health.garbage += 1
                        broken += 1
                        if broken > _MOST_GARBAGE:
                            raise SourceLost(f"{self.name}: {broken} packets in a row cannot be decoded") from error
            except FFmpegError as error:
                raise SourceLost(f"{self.name}: {error.strerror or error}") from error


class StreamClock:
    """A stream's time from the first frame on, never going back; set anew by the time of arrival where it jumps."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._ahead: float | None = None
        self._last = -1.0

    def restart(self) -> None:
        """A new connection has its own clock."""
        self._ahead = None

    def at(self, stream_s: float | None, arrived_s: float) -> float:
        """Seconds of a frame, by what the stream says, if it does, and when it arrived."""
        now = arrived_s if stream_s is None else self._kept(stream_s, arrived_s)
        self._last = max(now, self._last + 1e-6)
        return self._last

    def _kept(self, stream_s: float, arrived_s: float) -> float:
        if self._ahead is not None:
            now = stream_s - self._ahead
            if abs(now - arrived_s) <= _DRIFT_S:
                return now
            self._health.jumps += 1
        self._ahead = stream_s - arrived_s
        return arrived_s


class Stillness:
    """Notices a picture that does not change: a camera that hangs goes on sending."""

    def __init__(self, health: Health) -> None:
        self._health, self._changed_s = health, 0.0
        self._sample = np.empty(0, np.uint8)

    def watch(self, picture: NDArray[np.uint8], arrived_s: float) -> None:
        sample = picture[::_SAMPLE, ::_SAMPLE].copy()
        if not np.array_equal(sample, self._sample):
            self._sample, self._changed_s = sample, arrived_s
        elif arrived_s - self._changed_s > _FROZEN_S:
            self._health.frozen += 1
            self._changed_s = arrived_s
            logger.warning("the picture has not changed for %.0f s", _FROZEN_S)
