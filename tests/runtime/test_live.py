"""A stream over HTTP that ends, goes silent, changes its size and sends garbage: what a camera does, over a real connection."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any

import av
import cv2
import numpy as np
import pytest

from edgepose.engines.errors import ConfigError, EdgePoseError, SourceError
from edgepose.runtime import live
from edgepose.runtime.camera import live_source
from edgepose.runtime.ffmpeg_link import FfmpegLink, without_password
from edgepose.runtime.gstreamer_link import GStreamerLink
from edgepose.runtime.live import Health, LiveSource, Stillness, StreamClock
from edgepose.runtime.sources import Frame, open_source

FPS = 25


def transport_stream(frames: int, wh: tuple[int, int] = (160, 96), first: int = 0, sound_s: int = 0) -> bytes:
    """MPEG-TS; frame i is grey level 8 i + 16. Sound, for `sound_s`, comes after them."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height = wh
        stream.pix_fmt, stream.gop_size, stream.time_base = "yuv420p", 5, Fraction(1, FPS)
        sounds = container.add_stream("mp2", rate=48000) if sound_s else None
        for index in range(first, first + frames):
            frame = av.VideoFrame.from_ndarray(np.full((wh[1], wh[0], 3), 16 + 8 * (index % 25), np.uint8), format="bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for index in range(sound_s * 48000 // 1152 if sounds else 0):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 48000, 1152 * index
            container.mux(sounds.encode(silence))
    return file.getvalue()


def jpeg(level: int) -> bytes:
    """Grey of 20 `level` + 5."""
    encoded, data = cv2.imencode(".jpg", np.full((48, 64, 3), 20 * level + 5, np.uint8))
    assert encoded
    return data.tobytes()


@contextmanager
def serving(*answers: bytes | None, kind: str = "video/mp2t", at_once: int = 1 << 30) -> Iterator[str]:
    """The URL of a server that gives one answer a connection, the last one ever after, slowly beyond `at_once` bytes; None: it takes the
    connection and says nothing."""
    left = list(answers)
    closing = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is None:
                closing.wait()
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(answer[:at_once])
                for start in range(at_once, len(answer), 1880):
                    closing.wait(0.05)
                    self.wfile.write(answer[start : start + 1880])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.ts"
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def seen(source: LiveSource, count: int) -> list[Frame]:
    return list(islice(source.frames(), count))


def test_a_stream_that_ends_is_opened_anew() -> None:
    with serving(transport_stream(10)) as url:
        source = LiveSource(FfmpegLink(url))
        frames = seen(source, 25)
    assert [frame.index for frame in frames] == list(range(25))
    assert len({frame.name for frame in frames}) == 25
    assert source.health.reconnections == 2
    assert source.health.lost and not source.health.jumps
    times = [frame.time_s for frame in frames]
    assert times == sorted(times, key=lambda t: t or 0) and len(set(times)) == 25


def test_a_stream_may_come_back_in_another_size() -> None:
    with serving(transport_stream(5), transport_stream(5, (320, 192))) as url:
        frames = seen(LiveSource(FfmpegLink(url)), 10)
    assert [frame.picture.shape[:2] for frame in frames] == [(96, 160)] * 5 + [(192, 320)] * 5


def test_a_stream_that_says_nothing_is_given_up_and_opened_anew() -> None:
    with serving(transport_stream(5), None, transport_stream(5)) as url:
        source = LiveSource(FfmpegLink(url, patience_s=1))
        frames = seen(source, 10)
    assert len(frames) == 10
    assert source.health.reconnections == 2


def test_a_stream_whose_sound_goes_on_without_a_picture_is_given_up_and_opened_anew() -> None:
    """As a camera does whose encoder hangs."""
    stream = transport_stream(5, sound_s=30)
    with serving(stream, transport_stream(10), at_once=len(stream) // 2) as url:
        source = LiveSource(FfmpegLink(url, patience_s=0.5))
        frames = seen(source, 9)
    assert len(frames) == 9
    assert source.health.reconnections == 1 and "no picture for 0.5 s" in source.health.lost


def test_garbage_is_skipped_and_counted() -> None:
    """As cameras with motion JPEG send it: one picture a part, some of them rubbish."""
    rubbish = np.random.default_rng(0).bytes(2000)
    parts = [rubbish if i in (3, 7) else jpeg(i) for i in range(12)]
    body = b"".join(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(p), p) for p in parts)
    with serving(body, kind="multipart/x-mixed-replace; boundary=part") as url:
        source = LiveSource(FfmpegLink(url))
        frames = seen(source, 10)
    assert [round(float(frame.picture.mean())) // 20 for frame in frames] == [i for i in range(12) if i not in (3, 7)]
    assert source.health.garbage == 2 and source.health.reconnections == 0


def test_nothing_but_garbage_is_a_lost_connection() -> None:
    rubbish = np.random.default_rng(0).bytes(500)
    parts = [jpeg(1), *[rubbish] * 250, jpeg(2)]
    body = b"".join(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(p), p) for p in parts)
    with serving(body, kind="multipart/x-mixed-replace; boundary=part") as url:
        source = LiveSource(FfmpegLink(url))
        levels = [round(float(frame.picture.mean())) // 20 for frame in seen(source, 3)]
    assert levels == [1, 1, 1], "the picture behind the garbage is never reached"
    assert source.health.reconnections == 2 and "201 packets in a row" in source.health.lost


def test_a_picture_that_stands_still_is_counted_every_ten_seconds_and_told_once() -> None:
    health = Health()
    stillness, still, other = Stillness(health), np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 9, np.uint8)
    counts, told = [], []
    for second, picture in enumerate([still] * 24 + [other] * 5 + [still] * 12):
        if stillness.watch(picture, float(second)):
            told.append(second)
        counts.append(health.frozen)
    assert (counts[10], counts[11], counts[22], counts[28], counts[-1]) == (0, 1, 2, 2, 3)
    assert told == [11, 40]


class StandingLink:
    """A camera that hangs and goes on sending."""

    name = "standing"

    def pictures(self, _health: Health, /) -> Iterator[tuple[np.ndarray[Any, Any], float | None]]:
        while True:
            time.sleep(0.02)
            yield np.zeros((32, 32, 3), np.uint8), None


def test_a_camera_whose_picture_stands_still_is_opened_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_FROZEN_S", 0.1)
    source = LiveSource(StandingLink())
    frames = list(islice(source.frames(), 40))
    assert len(frames) == 40 and source.health.frozen >= 3
    assert source.health.reconnections == 1 and "has not changed" in source.health.lost


def test_a_source_that_was_stopped_connects_no_more_until_it_is_asked_anew() -> None:
    with serving(transport_stream(5)) as url:
        source = LiveSource(FfmpegLink(url))
        frames = source.frames()
        for _ in range(5):
            next(frames)
        source.stop()
        assert list(frames) == []
        assert len(seen(source, 7)) == 7


def test_a_stream_that_breaks_in_the_middle_goes_on() -> None:
    data = bytearray(transport_stream(60))
    third = len(data) // 3
    data[third : 2 * third] = np.random.default_rng(0).bytes(third)
    with serving(bytes(data)) as url:
        frames = seen(LiveSource(FfmpegLink(url)), 50)
    assert len(frames) == 50


def test_a_camera_that_was_never_there_is_an_error_at_once() -> None:
    with serving(b"") as url:
        pass
    with pytest.raises(SourceError, match="cannot open it") as error:
        seen(LiveSource(FfmpegLink(url)), 1)
    assert "\n" not in str(error.value)


def test_what_is_no_video_is_an_error_at_once() -> None:
    with serving(b"<html>not a camera</html>" * 100) as url, pytest.raises(SourceError):
        seen(LiveSource(FfmpegLink(url, patience_s=2)), 1)


def test_a_stream_without_a_picture_is_an_error() -> None:
    rubbish = np.random.default_rng(0).bytes(2000)
    part = b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(rubbish), rubbish)
    with serving(part * 5, kind="multipart/x-mixed-replace; boundary=part") as url, pytest.raises(SourceError):
        seen(LiveSource(FfmpegLink(url, patience_s=2)), 1)


def test_a_clock_that_runs_is_kept() -> None:
    """Frames arrive unevenly, the stream says 40 ms each."""
    clock = StreamClock(Health())
    found = [clock.at(100 + 0.04 * i, 0.04 * i + jitter) for i, jitter in enumerate((0, 0.03, 0.01, 0.02, 0))]
    np.testing.assert_allclose(found, 0.04 * np.arange(5), atol=1e-9)


@pytest.mark.parametrize("jump_s", [-50.0, 3600.0])
def test_a_clock_that_jumps_is_set_anew_and_counted(jump_s: float) -> None:
    health = Health()
    clock = StreamClock(health)
    before = [clock.at(100 + 0.04 * i, 0.04 * i) for i in range(5)]
    after = [clock.at(100 + jump_s + 0.04 * i, 0.04 * i) for i in range(5, 10)]
    np.testing.assert_allclose([*before, *after], 0.04 * np.arange(10), atol=1e-9)
    assert health.jumps == 1


def test_without_a_clock_the_time_of_arrival_counts() -> None:
    clock = StreamClock(Health())
    assert [clock.at(None, t) for t in (0, 0.1, 0.3)] == [0, 0.1, 0.3]


def test_uris_say_what_ffmpeg_is_to_open() -> None:
    camera = live_source("v4l2:///dev/video0?size=1280x720&fps=30&format=mjpeg").link
    assert camera == FfmpegLink("/dev/video0", "v4l2", {"video_size": "1280x720", "framerate": "30.0", "input_format": "mjpeg"})
    stream = live_source("rtsp://camera/one?channel=2")
    assert isinstance(stream.link, FfmpegLink)
    assert (stream.link.url, stream.link.format, stream.link.options["rtsp_transport"]) == ("rtsp://camera/one?channel=2", None, "tcp")
    assert stream.is_live and stream.is_video


def test_uris_say_what_gstreamer_is_to_open() -> None:
    assert live_source("gst:videotestsrc ! queue").link == GStreamerLink("videotestsrc ! queue")
    assert live_source("csi://1?size=1920x1080&fps=60&flip=2").link == GStreamerLink(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1"
        " ! nvvidconv flip-method=2 ! video/x-raw,format=BGRx"
    )


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("v4l2:///dev/video0?sice=1x1", ConfigError, "did you mean 'size'"),
        ("v4l2:///dev/video0?size=big", ConfigError, "size"),
        ("rtsp://admin:pa[ss@cam/x", ConfigError, "%5B"),
        ("csi://left", ConfigError, "csi:// and the sensor's number"),
        ("csi://0?sise=1x1", ConfigError, "did you mean 'size'"),
        ("gopher://camera", SourceError, "gopher:// is unknown"),
        ("v4l2://dev/video0", ConfigError, "three slashes: v4l2:///dev/video0"),
        ("v4l2://", ConfigError, "three slashes: v4l2:///dev/video0"),
    ],
)
def test_a_wrong_uri_is_refused(uri: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        open_source(uri)


def test_a_wrong_uri_is_refused_without_its_password() -> None:
    for uri in ("v4l2://admin:geheim@camera", "csi://admin:geheim@0", "gopher://admin:geheim@camera", "rtsp://admin:geheim[@cam/x"):
        with pytest.raises(EdgePoseError) as error:
            open_source(uri)
        assert "geheim" not in str(error.value) and "admin:***@" in str(error.value)


def test_a_scheme_in_capitals_is_taken_as_ffmpeg_wants_it() -> None:
    assert live_source("RTSP://Camera/Stream").link.name == "rtsp://Camera/Stream"


def test_a_camera_that_is_not_there_is_an_error_in_one_line() -> None:
    with pytest.raises(SourceError, match=r"/dev/video99: FFmpeg cannot open it \(No such file or directory\)$"):
        seen(live_source("v4l2:///dev/video99"), 1)


def test_passwords_stay_out_of_messages() -> None:
    assert without_password("rtsp://admin:geheim@10.0.0.2:554/x") == "rtsp://admin:***@10.0.0.2:554/x"
    assert without_password("rtsp://admin:p@ss@10.0.0.2/x?user=a&pwd=geheim&c=1") == "rtsp://admin:***@10.0.0.2/x?user=a&pwd=***&c=1"
    assert (
        GStreamerLink("rtspsrc location=rtsp://a:b@c/d user-pw=geheim ! x").name == "gst:rtspsrc location=rtsp://a:***@c/d user-pw=*** ! x"
    )
    assert without_password("rtsp://a:p/ss@h/x") == "rtsp://a:***@h/x"
    mistyped_ones = ["a:geheim@h/x", "rtsp:a:geheim@h/x", "http:/a:geheim@h", "rtsp:///a:geheim@h", "rtsp//a:geheim@h", "//a:geheim@h"]
    for mistyped in (*mistyped_ones, "camera door: a:geheim@h: lost", "'a:geheim@h'"):
        assert "geheim" not in without_password(mistyped) and "@h" in without_password(mistyped)
    assert without_password("camera door: no picture for 5 s, ask me@example.org") == "camera door: no picture for 5 s, ask me@example.org"
    assert without_password("http://me@mail.com:s3cret@host:80/x") == "http://me@mail.com:***@host:80/x"
    assert without_password("http://me@mail.com:s/cr@t@host/x?a=b") == "http://me@mail.com:***@host/x?a=b"
    assert without_password("rtsp://viewer@mail.com@h:554/x") == "rtsp://viewer@mail.com@h:554/x", "no password, so nothing to hide"
    recorder = "rtsp://10.0.0.2:554/user=admin_password={}_channel=1_stream=0.sdp"
    assert without_password(recorder.format("tlJwpbo6")) == recorder.format("***")
    assert without_password('rtspsrc user-pw="my secret" ! x') == "rtspsrc user-pw=*** ! x"
    assert without_password("http://h/x?psw=a&client_secret=b&auth=c&d=1") == "http://h/x?psw=***&client_secret=***&auth=***&d=1"
    with pytest.raises(SourceError) as error:
        seen(live_source("http://admin:geheim@127.0.0.1:1/x"), 1)
    assert "geheim" not in str(error.value) and "admin:***@" in str(error.value)
