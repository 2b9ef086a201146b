from __future__ import annotations

import pytest
from camera_results import camera_result

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
