"""`FfmpegLink`: one connection to a camera or stream that FFmpeg opens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from edgepose.engines.errors import SourceLost
from edgepose.runtime.live import Health
from edgepose.runtime.sources import opened, upright

_MOST_GARBAGE = 200
"""Packets in a row that cannot be decoded, after which the connection is given up."""

_SECRET = re.compile(
    r"(?i)(?<![a-z0-9])((?:user-)?(?:pw|pwd|psw|pass|passwd|password|passphrase|loginpas)|(?:access_?|auth_?)?token|auth|api_?key|(?:client_?)?secret)"
    r"=(?:\"[^\"]*\"|'[^']*'|[^&\s]*?(?=_channel=|[&\s]|$))"
)
"""Names under which cameras, recorders (`user=admin_password=..._channel=1`), SRT and GStreamer take what nobody else may know."""


@dataclass(frozen=True, slots=True)
class FfmpegLink:
    """`url` as FFmpeg takes it; `format` and `options` are FFmpeg's. No picture for `patience_s` is a lost connection."""

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 5.0

    @property
    def name(self) -> str:
        return without_password(self.url)

    def pictures(self, health: Health, /) -> Iterator[tuple[NDArray[np.uint8], float | None]]:
        with opened(self.url, self.patience_s, self.format, self.options, self.name) as stream:
            stream.thread_type = "SLICE"  # threads by frame would hold back a frame each
            container, converter, broken = stream.container, VideoReformatter(), 0
            assert isinstance(container, InputContainer)
            try:
                heard_s = monotonic()
                for packet in container.demux():
                    if packet.stream.index != stream.index:
                        if monotonic() - heard_s > self.patience_s:  # sound may go on without the picture
                            raise SourceLost(f"{self.name}: no picture for {self.patience_s:g} s")
                        continue
                    try:
                        for frame in packet.decode():
                            assert isinstance(frame, av.VideoFrame)
                            broken = 0
                            yield upright(frame, converter), frame.time
                    except av.InvalidDataError as error:
                        health.garbage += 1
                        broken += 1
                        if broken > _MOST_GARBAGE:
                            raise SourceLost(f"{self.name}: {broken} packets in a row cannot be decoded") from error
                    heard_s = monotonic()
            except FFmpegError as error:
                raise SourceLost(f"{self.name}: {error.strerror or error}") from error


def without_password(url: str) -> str:
    """For messages: logs are no place for a camera's password, in front of its host or in a query or property. The user may have an @, the
    password also a slash, so that it ends at the last @ before the query."""
    hidden = re.sub(r"(?<=://)(/*[^/:\s?]*):[^\s?]*@", r"\1:***@", url)
    hidden = re.sub(r"(?<![^\s'\"])([^:\s?@'\"]*):(?!//)[^\s?]*@", r"\1:***@", hidden)  # mistyped: u:p@h, rtsp:u:p@h, //u:p@h
    return _SECRET.sub(r"\1=***", hidden)
