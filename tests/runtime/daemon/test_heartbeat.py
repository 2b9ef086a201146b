from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from edgepose.runtime.daemon.heartbeat import Heartbeat


@dataclass
class Counters:
    """What a heartbeat reads of a station, and a clock."""

    captured: int = 0
    delivered: int = 0
    failures: int = 0
    trouble: str = ""
    now_s: float = 0.0
    beats: list[bool] = field(default_factory=list)

    @property
    def cameras(self) -> tuple[Any, ...]:
        return (SimpleNamespace(count=SimpleNamespace(captured=self.captured)),)

    def pass_by(self, heartbeat: Heartbeat, seconds: int, captured: int, delivered: int) -> list[bool]:
        """What it says, asked once a second while so many frames a second come and results go."""
        said = []
        for _ in range(seconds):
            self.now_s, self.captured, self.delivered = self.now_s + 1, self.captured + captured, self.delivered + delivered
            said.append(heartbeat.beats())
        return said


@pytest.fixture
def station() -> Counters:
    return Counters()


@pytest.fixture
def heartbeat(station: Counters) -> Heartbeat:
    return Heartbeat(station, lambda: station.now_s)  # type: ignore[arg-type]


def test_it_beats_while_results_come(station: Counters, heartbeat: Heartbeat) -> None:
    assert all(station.pass_by(heartbeat, 60, 20, 15))


def test_cameras_that_give_nothing_are_no_reason_to_start_anew(station: Counters, heartbeat: Heartbeat) -> None:
    assert all(station.pass_by(heartbeat, 600, 0, 0))


def test_frames_without_results_end_it_after_ten_seconds(station: Counters, heartbeat: Heartbeat) -> None:
    station.pass_by(heartbeat, 5, 20, 15)
    said = station.pass_by(heartbeat, 15, 20, 0)
    assert said == [True] * 10 + [False] * 5
    assert station.pass_by(heartbeat, 2, 20, 15) == [True, True]


@pytest.mark.parametrize("every_s", [2, 5, 60])
def test_so_do_frames_that_come_seldom(station: Counters, heartbeat: Heartbeat, every_s: int) -> None:
    assert all(station.pass_by(heartbeat, 1, 1, 1) + station.pass_by(heartbeat, every_s, 0, 0))
    said = station.pass_by(heartbeat, 1, 1, 0)
    while len(said) < 60:
        said += station.pass_by(heartbeat, every_s - 1, 0, 0) + station.pass_by(heartbeat, 1, 1, 0)
    assert not any(said[10:]) and all(said[:10])


def test_a_frame_that_went_with_its_camera_is_not_waited_for(station: Counters, heartbeat: Heartbeat) -> None:
    station.pass_by(heartbeat, 5, 20, 20)
    station.pass_by(heartbeat, 1, 1, 0)
    station.captured = 0
    assert all(station.pass_by(heartbeat, 60, 0, 0))


def test_a_frame_that_a_failing_engine_lost_is_waited_for_as_long_as_the_engine(station: Counters, heartbeat: Heartbeat) -> None:
    station.pass_by(heartbeat, 1, 1, 1)
    station.pass_by(heartbeat, 1, 1, 0)
    station.failures = 1
    assert all(station.pass_by(heartbeat, 60, 0, 0) + station.pass_by(heartbeat, 60, 1, 1))


def test_an_engine_that_is_opened_again_has_two_minutes(station: Counters, heartbeat: Heartbeat) -> None:
    station.trouble = "the device was lost"
    said = station.pass_by(heartbeat, 130, 20, 0)
    assert said == [True] * 120 + [False] * 10
