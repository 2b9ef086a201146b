"""A GStreamer pipeline as a camera, by GStreamer's own bindings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from conftest import DEBIAN_PACKAGES

from edgepose.engines.errors import BackendUnavailable, SourceError, SourceLost
from edgepose.runtime.gstreamer_link import GStreamerLink
from edgepose.runtime.live import Health, LiveSource
from edgepose.runtime.sources import open_source

pytestmark = pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::DeprecationWarning")


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's, which this Python can load."""
    monkeypatch.setattr(sys, "path", [*sys.path, DEBIAN_PACKAGES])


@pytest.mark.needs("gstreamer")
@pytest.mark.usefixtures("bindings")
def test_pictures_come_as_bgr_with_their_times() -> None:
    """Of an odd width, whose rows GStreamer pads."""
    caps = "video/x-raw,format=RGB,width=101,height=50,framerate=25/1"
    first = next(open_source(f"gst:videotestsrc is-live=true pattern=red ! {caps}").frames())
    assert first.picture.shape == (50, 101, 3)
    assert (first.picture == (0, 0, 255)).all()
    found = list(GStreamerLink(f"videotestsrc num-buffers=5 is-live=true ! {caps}").pictures(Health()))
    assert 2 <= len(found) <= 5, "a slow reader gets the newest"
    assert [time_s for _, time_s in found] == sorted(time_s or 0 for _, time_s in found)


@pytest.mark.needs("gstreamer")
@pytest.mark.usefixtures("bindings")
def test_a_pipeline_that_ends_is_started_anew() -> None:
    source = LiveSource(GStreamerLink("videotestsrc num-buffers=3 is-live=true ! video/x-raw,width=64,height=48,framerate=20/1"))
    frames = list(islice(source.frames(), 8))
    assert len(frames) == 8 and source.health.reconnections >= 1


@pytest.mark.needs("gstreamer")
@pytest.mark.usefixtures("bindings")
@pytest.mark.parametrize(
    ("description", "error", "says"),
    [
        ("nosuchelement ! queue", SourceError, "nosuchelement"),
        ("filesrc location=/nowhere.h264 ! h264parse ! avdec_h264", SourceError, "gst:filesrc"),
        ("v4l2src device=/dev/video99", SourceLost, "video99"),
    ],
)
def test_what_cannot_be_opened_is_an_error_in_one_line(description: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        list(islice(LiveSource(replace(GStreamerLink(description), patience_s=3)).frames(), 1))
    assert "\n" not in str(raised.value)


@pytest.mark.needs("gstreamer")
@pytest.mark.usefixtures("bindings")
def test_a_pipeline_that_gives_nothing_is_given_up() -> None:
    link = GStreamerLink("appsrc is-live=true ! video/x-raw,format=BGR,width=64,height=48,framerate=20/1", patience_s=0.3)
    with pytest.raises(SourceLost, match=r"no picture for 0\.3 s"):
        next(link.pictures(Health()))


@pytest.mark.needs("gstreamer")
def test_an_engine_opens_after_gstreamer_was_loaded(painted_bundles: dict[str, Path]) -> None:
    """In a process of its own: GStreamer's libunwind must not catch, and miss, the exceptions of what is loaded later."""
    program = (
        f"import sys, onnx, torch; sys.path.append({DEBIAN_PACKAGES!r});"
        "from edgepose.runtime.sources import open_source; from edgepose.engines import open_engine;"
        "next(open_source('gst:videotestsrc num-buffers=2').frames());"
        f"open_engine({str(painted_bundles['ov-fp32'])!r}, 'CPU').close()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_without_bindings_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(BackendUnavailable, match="apt install python3-gi"):
        next(open_source("gst:videotestsrc").frames())
