"""What a camera says of itself."""

from __future__ import annotations

from threading import Thread

import pytest
from camera_results import camera_result
from daemon_process import until

from edgepose.runtime.daemon import camera as module
from edgepose.runtime.daemon.camera import Camera
from edgepose.runtime.daemon.camera_settings import CameraSettings


@pytest.mark.parametrize("max_fps", [0.2, 1.0, 20.0])
def test_a_camera_tells_of_as_many_frames_a_second_as_it_is_to_give(max_fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    camera = Camera(CameraSettings(name="hall", source="test:pattern", track=False, max_fps=max_fps), 18)
    for _ in range(200):
        now[0] += 1 / max_fps
        camera.take(camera_result("hall").result)
    now[0] += 0.9 / max_fps
    assert camera.state().fps == pytest.approx(max_fps)
    now[0] += 3600
    assert camera.state().fps == 0


def test_a_mistyped_address_is_told_without_its_password() -> None:
    camera = Camera(CameraSettings(name="hall", source="rtsp:/admin:geheim@127.0.0.1/x"), 18)
    looking = Thread(target=lambda: list(camera.source.frames()))
    looking.start()
    try:
        until(lambda: camera.state().reason, "the reason")
        assert "rtsp:***@127.0.0.1" in camera.state().reason and "geheim" not in repr(camera.state())
    finally:
        camera.source.stop()
        looking.join()
