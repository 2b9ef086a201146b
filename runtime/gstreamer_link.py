"""`GStreamerLink`: one connection to a camera by a GStreamer pipeline: cameras on a Jetson's ribbon cable, and whatever else it opens.

OpenCV's wheels come without GStreamer, so this uses GStreamer's own Python bindings.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import BackendUnavailable, SourceError, SourceLost
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.live import Health

_SINK = "edgepose_sink"
_LOOK_S = 0.1
"""How often errors are looked for while no picture comes."""


@dataclass(frozen=True, slots=True)
class GStreamerLink:
    """`description` is a pipeline as gst-launch-1.0 takes it, that ends in video of any format; conversion to BGR and a sink that keeps the
    newest picture are put behind it. Nothing for `patience_s` is a lost connection."""

    description: str
    patience_s: float = 5.0

    @property
    def name(self) -> str:
        return without_password(f"gst:{self.description}")

    def pictures(self, _health: Health, /) -> Iterator[tuple[NDArray[np.uint8], float | None]]:
        gst, video, glib = import_gstreamer()
        with self._playing(gst, glib) as pipeline:
            sink, bus, last = pipeline.get_by_name(_SINK), pipeline.get_bus(), monotonic()
            while True:
                sample = sink.emit("try-pull-sample", int(_LOOK_S * gst.SECOND))
                if sample is not None:
                    pts = sample.get_buffer().pts
                    yield _picture(sample, gst, video), None if pts == gst.CLOCK_TIME_NONE else pts / gst.SECOND
                    last = monotonic()
                elif error := bus.pop_filtered(gst.MessageType.ERROR):
                    raise SourceLost(f"{self.name}: {error.parse_error()[0].message}")
                elif sink.get_property("eos"):
                    return
                elif monotonic() - last > self.patience_s:
                    raise SourceLost(f"{self.name}: no picture for {self.patience_s:g} s")

    @contextmanager
    def _playing(self, gst: Any, glib: Any) -> Iterator[Any]:
        ending = f"videoconvert ! video/x-raw,format=BGR ! appsink name={_SINK} max-buffers=1 drop=true sync=false"
        try:
            pipeline = gst.parse_launch(f"{self.description} ! {ending}")
        except glib.Error as error:
            raise SourceError(f"{self.name}: GStreamer: {error.message}") from error
        try:
            pipeline.set_state(gst.State.PLAYING)
            yield pipeline
        finally:
            pipeline.set_state(gst.State.NULL)


def import_gstreamer() -> tuple[Any, Any, Any]:
    """`Gst`, initialised, `GstVideo` and `GLib`. Raises BackendUnavailable."""
    with suppress(OSError):
        # GStreamer brings libunwind, whose _Unwind_* symbols would be found before libgcc's by libraries that are loaded later: C++
        # exceptions of OpenVINO then end the process. The first to be loaded for all is the one that is found.
        ctypes.CDLL("libgcc_s.so.1", ctypes.RTLD_GLOBAL)
    try:
        gi = importlib.import_module("gi")
        for name in ("Gst", "GstVideo"):
            gi.require_version(name, "1.0")
        gst, video, glib = (importlib.import_module(f"gi.repository.{name}") for name in ("Gst", "GstVideo", "GLib"))
    except (ImportError, ValueError) as error:
        raise BackendUnavailable(
            "GStreamer's Python bindings are not there: apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good, in a"
            " virtual environment made with --system-site-packages"
        ) from error
    gst.init(None)
    return gst, video, glib


def _picture(sample: Any, gst: Any, video: Any) -> NDArray[np.uint8]:
    """A copy; GStreamer pads rows to multiples of 4 bytes."""
    info, buffer = video.VideoInfo.new_from_caps(sample.get_caps()), sample.get_buffer()
    mapped, memory = buffer.map(gst.MapFlags.READ)
    if not mapped:
        raise SourceLost("GStreamer does not give a picture's memory")
    try:
        rows = np.frombuffer(memory.data, np.uint8, info.height * info.stride[0], info.offset[0]).reshape(info.height, -1)
        return np.ascontiguousarray(rows[:, : 3 * info.width].reshape(info.height, info.width, 3)).copy()
    finally:
        buffer.unmap(memory)
