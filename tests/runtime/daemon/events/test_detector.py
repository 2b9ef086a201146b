"""The service between results and events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from camera_results import EPOCH_S, camera_result, poses_of, result_of

from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.detector import EventDetector
from edgepose.runtime.daemon.events.settings import EventSettings, PresenceSettings, ZoneSettings
from edgepose.runtime.daemon.hub import Hub, Subscription

PATIENCE_S = 10.0
PRESENCE = PresenceSettings(kind="presence", after_s=0.2, until_s=0.2)


@dataclass(frozen=True)
class Watched:
    name: str = "door"
    events: tuple[EventSettings, ...] = (PRESENCE,)
    zones: tuple[ZoneSettings, ...] = ()
    track: bool = True
    smooth: bool = False
    source: str = "test:pattern"
    password_file: Path | None = None
    password_env: str | None = None
    enabled: bool = True
    max_fps: float | None = None


@dataclass
class Bench:
    detector: EventDetector
    results: Hub[CameraResult]
    events: Subscription[Event]
    now: list[float] = field(default_factory=lambda: [0.0])

    def event(self) -> Event:
        event = self.events.get(PATIENCE_S)
        assert event is not None, self.detector.status()
        return event


@contextmanager
def watching(*cameras: Watched) -> Iterator[Bench]:
    results, events, now = Hub[CameraResult](), Hub[Event](), [0.0]
    subscription = events.subscribe("test", 100)
    detector = EventDetector(cameras, COCO18, results, events, clock=lambda: now[0])
    detector.start()
    try:
        yield Bench(detector, results, subscription, now)
    finally:
        began = time.monotonic()
        detector.stop()
        assert time.monotonic() - began < 2 and not detector._thread.is_alive()


def test_events_carry_the_camera_and_the_time_of_capture() -> None:
    with watching(Watched(), Watched("yard")) as bench:
        for index in range(5):
            bench.results.publish(camera_result("yard", index))
        event = bench.event()
    assert (event.camera, event.kind, event.state, event.at_s) == ("yard", "presence", "started", pytest.approx(EPOCH_S + 0.2, abs=0.01))


def test_a_camera_that_falls_silent_ends_its_events() -> None:
    with watching(Watched()) as bench:
        for index in range(3):
            bench.results.publish(camera_result(index=index))
        assert bench.event().state == "started", "by the last of them"
        bench.now[0] = 11.0
        ended = bench.event()
        assert (ended.state, ended.detail) == ("ended", {"reason": "no picture"})
        assert ended.at_s == pytest.approx(EPOCH_S + 0.2 + 11, abs=0.01)


def test_stopping_ends_what_lasts() -> None:
    with watching(Watched()) as bench:
        for index in range(5):
            bench.results.publish(camera_result(index=index))
        assert bench.event().state == "started"
    ended = bench.event()
    assert (ended.state, ended.detail) == ("ended", {"reason": "stopped"})


def test_a_reconfigured_camera_starts_anew_and_the_others_go_on() -> None:
    with watching(Watched(), Watched("yard")) as bench:
        for index in range(5):
            bench.results.publish(camera_result("door", index))
            bench.results.publish(camera_result("yard", index))
        assert {bench.event().camera, bench.event().camera} == {"door", "yard"}
        bench.detector.reconfigure((Watched(), Watched("yard", (PresenceSettings(kind="presence", after_s=0),))))
        ended = bench.event()
        assert (ended.camera, ended.state, ended.detail) == ("yard", "ended", {"reason": "reconfigured"})
        bench.results.publish(camera_result("yard", 5))
        assert bench.event().camera == "yard"
        assert bench.detector.status()["published"] == 4


@pytest.mark.parametrize(
    "opened", [{"source": "test:other"}, {"password_file": Path("p")}, {"password_env": "P"}, {"enabled": False}, {"max_fps": 5.0}]
)
def test_a_camera_that_is_opened_anew_starts_anew(opened: dict[str, Any]) -> None:
    """Whoever has the same number there is somebody else."""
    with watching(Watched()) as bench:
        for index in range(5):
            bench.results.publish(camera_result(index=index))
        assert bench.event().state == "started"
        bench.detector.reconfigure((replace(Watched(), **opened),))
        ended = bench.event()
        assert (ended.state, ended.detail) == ("ended", {"reason": "reconfigured"})


def test_a_slow_camera_is_not_silent_between_two_frames() -> None:
    with watching(Watched(max_fps=0.05)) as bench:
        for index in range(3):
            bench.results.publish(camera_result(index=index))
        assert bench.event().state == "started"
        bench.now[0] = 59.0
        bench.detector._listen()
        assert bench.events.get(0) is None
        bench.now[0] = 61.0
        assert bench.event().detail == {"reason": "no picture"}


def test_a_result_that_cannot_be_judged_is_counted_and_the_next_one_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with watching(Watched()) as bench:
        broken = result_of(poses_of([{"nose": (1.0, 1.0)}]))
        object.__setattr__(broken.result.poses, "keypoints", broken.result.poses.keypoints[:, :3])
        bench.results.publish(broken)
        for index in range(1, 6):
            bench.results.publish(camera_result(index=index))
        assert bench.event().state == "started"
        assert bench.detector.status()["errors"] == 1
    assert "ValueError" in caplog.text


def test_results_of_cameras_nobody_watches_are_left_alone() -> None:
    with watching(Watched()) as bench:
        for index in range(5):
            bench.results.publish(camera_result("elsewhere", index))
            bench.results.publish(camera_result("door", index))
        assert bench.event().camera == "door"
    assert bench.detector.status()["errors"] == 0
