"""Cameras and streams by their URI: what FFmpeg or GStreamer is to open."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from edgepose.engines.errors import ConfigError, SourceError
from edgepose.engines.record import Record
from edgepose.runtime.ffmpeg_link import FfmpegLink, without_password
from edgepose.runtime.gstreamer_link import GStreamerLink
from edgepose.runtime.live import Link, LiveSource

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


class CsiCamera(Record):
    """What `csi://SENSOR?KEY=VALUE&...` may say: a camera on a Jetson's ribbon cable. `flip` turns the picture as nvvidconv does (2: 180
    degrees)."""

    size: str = Field(default="1280x720", pattern=r"^\d+x\d+$")
    fps: int = Field(default=30, gt=0)
    flip: int = Field(default=0, ge=0, le=7)

    def description(self, sensor: int) -> str:
        width, height = self.size.split("x")
        return (
            f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},framerate={self.fps}/1"
            f" ! nvvidconv flip-method={self.flip} ! video/x-raw,format=BGRx"
        )


def live_source(uri: str) -> LiveSource:
    """`v4l2:///dev/video0?...`, `csi://0?...`, `gst:DESCRIPTION`, or a URL that FFmpeg knows (rtsp, http, udp, ...).

    Raises ConfigError, SourceError.
    """
    return LiveSource(_link(uri))


def _link(uri: str) -> Link:
    if uri.startswith("gst:"):
        return GStreamerLink(uri.removeprefix("gst:"))
    told = without_password(uri)
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ConfigError(f"{told}: {error}: write brackets in a password as %5B and %5D") from error
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "v4l2":
        if parts.netloc or not parts.path:
            raise ConfigError(f"{told}: wanted v4l2:// and the device's path, so three slashes: v4l2:///dev/video0")
        return FfmpegLink(parts.path, "v4l2", VideoDevice.parse(query, told).options)
    if parts.scheme == "csi":
        if not parts.netloc.isdecimal():
            raise ConfigError(f"{told}: wanted csi:// and the sensor's number: csi://0?size=1280x720&fps=30")
        return GStreamerLink(CsiCamera.parse(query, told).description(int(parts.netloc)))
    if parts.scheme not in _SCHEMES:
        known = "v4l2:// csi:// gst: " + " ".join(_SCHEMES)
        raise SourceError(f"{told}: {parts.scheme}:// is unknown: wanted one of {known}")
    return FfmpegLink(parts.scheme + uri[len(parts.scheme) :], options=_SCHEMES[parts.scheme])  # FFmpeg knows small letters only
