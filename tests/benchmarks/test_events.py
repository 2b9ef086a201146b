"""The figures of events count what was said, of acts whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgepose.benchmarks import events
from edgepose.benchmarks.acting_people import Actor, Camera, everyday, falls
from edgepose.benchmarks.events import BenchCamera, event_cases, event_report
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon.events.settings import FallSettings


def test_most_falls_and_hands_are_found_and_little_else_is_said() -> None:
    cases = {case.act: case for case in event_cases(10, 4, 0, lambda: None)}
    for act in ("fall forward", "fall backward", "fall to the side", "collapse", "raise a hand", "wave"):
        assert (cases[act].recall or 0) >= 0.75, act
    for act in ("stand", "walk", "sit on a chair", "bend", "telephone", "arms out"):
        assert (cases[act].recall, cases[act].false_falls, cases[act].false_hands) == (None, 0, 0), act
    report = event_report(list(cases.values()))
    together = report["together"]
    assert isinstance(together, list) and together[0]["falls"] == 20 and together[0]["hands"] == 8
    assert json.loads(json.dumps(report)) == report


def test_what_does_not_happen_and_is_said_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = FallSettings(kind="fall", after_s=0, speed=0, angle=30)
    monkeypatch.setattr(events, "BenchCamera", lambda: BenchCamera(events=(everything,)))
    cases = {case.act: case for case in event_cases(10, 2, 0, lambda: None)}
    assert cases["lie down on purpose"].false_falls == 2


def test_actors_stand_lie_and_stay_above_the_ground() -> None:
    rng = np.random.default_rng(0)
    for act in falls(rng):
        actor = Actor(act, Camera(1.5, 4.0), 20, COCO18)
        standing, lying = actor.at(np.array([0.5, act.seconds - 0.5]))
        assert np.ptp(standing[:, 1]) > 2 * np.ptp(standing[:, 0]), act.name
        assert np.nanmax(lying[:, 1]) - np.nanmin(lying[:, 1]) < 0.6 * np.ptp(standing[:, 1]), act.name


def test_who_stands_does_not_move_and_who_walks_does() -> None:
    stand, walk = everyday(np.random.default_rng(0))[:2]
    times = np.linspace(5, 7, 5)
    still, moving = (Actor(act, Camera(1.5, 4.0), 0, COCO18).at(times) for act in (stand, walk))
    assert np.ptp(still, axis=0).max() == 0
    assert np.nanmin(np.ptp(moving[:, 1], axis=0)) >= 0 and np.ptp(moving[:, 1, 0]) > 50
