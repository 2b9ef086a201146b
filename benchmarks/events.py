"""How many falls and raised hands of synthetic people are found, after how long, and how often something is said that did not happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from edgepose.benchmarks.acting_people import Act, Actor, Camera, everyday, falls, hands, lies_down, poses_seen
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.settings import EventSettings, FallSettings, HandRaisedSettings, PresenceSettings, ZoneSettings
from edgepose.runtime.daemon.events.watch import CameraWatch
from edgepose.runtime.tracking import PoseTracker

Acts = Callable[[np.random.Generator], tuple[Act, ...]]
NOISE_PX, HIDDEN_KEYPOINTS, MISSED_PERSONS, MISSED_LYING = 3.0, 0.05, 0.03, 0.2


@dataclass(frozen=True, slots=True)
class BenchCamera:
    """A camera that watches for everything in its whole picture."""

    name: str = "bench"
    track: bool = True
    smooth: bool = False
    zones: tuple[ZoneSettings, ...] = ()
    events: tuple[EventSettings, ...] = (
        PresenceSettings(kind="presence"),
        FallSettings(kind="fall"),
        HandRaisedSettings(kind="hand_raised"),
    )


@dataclass(slots=True)
class EventCase:
    """One act at one frame rate. `delays_s` from what happened to the event that says so, of those that were said; `false_falls` and
    `false_hands` count events of what did not happen, `flickers` how often somebody who was there was said to have gone or doubled."""

    act: str
    fps: float
    happens: str | None
    runs: int = 0
    seconds: float = 0.0
    delays_s: list[float] = field(default_factory=list)
    false_falls: int = 0
    false_hands: int = 0
    flickers: int = 0

    @property
    def recall(self) -> float | None:
        return len(self.delays_s) / self.runs if self.happens else None

    def hourly(self, count: int) -> float:
        return 3600 * count / self.seconds

    @property
    def median_delay_s(self) -> float | None:
        return float(np.median(self.delays_s)) if self.delays_s else None


def event_report(cases: list[EventCase]) -> dict[str, object]:
    """What was simulated, what was found of each act, and all together by frame rate: of falls but the slow one, and of everyday life."""
    rows = [
        {
            **{"act": c.act, "fps": c.fps, "runs": c.runs, "seconds": round(c.seconds, 1), "recall": c.recall},
            **{"delay_s_p50": _rounded(c, 50), "delay_s_p90": _rounded(c, 90)},
            **{"false_falls": c.false_falls, "false_hands": c.false_hands, "presence_flickers": c.flickers},
        }
        for c in cases
    ]
    seen = {"noise_px": NOISE_PX, "hidden_keypoints": HIDDEN_KEYPOINTS, "missed_people": MISSED_PERSONS, "missed_lying": MISSED_LYING}
    return {**seen, "together": [_together(cases, fps) for fps in dict.fromkeys(c.fps for c in cases)], "cases": rows}


def _together(cases: list[EventCase], fps: float) -> dict[str, float]:
    fast = [c for c in cases if c.fps == fps and c.happens == "fall" and "slowly" not in c.act]
    hand = [c for c in cases if c.fps == fps and c.happens == "hand_raised"]
    calm = [c for c in cases if c.fps == fps and c.happens != "fall"]
    hours = sum(c.seconds for c in calm) / 3600
    return {
        "fps": fps,
        "falls": sum(c.runs for c in fast),
        "falls_found": sum(len(c.delays_s) for c in fast),
        "fall_delay_s_p50": round(float(np.median([delay for c in fast for delay in c.delays_s])), 2) if fast else 0.0,
        "hands": sum(c.runs for c in hand),
        "hands_found": sum(len(c.delays_s) for c in hand),
        "hours_without_falls": round(hours, 2),
        "false_falls": sum(c.false_falls for c in calm),
        "false_hands": sum(c.false_hands for c in calm),
    }


def _rounded(case: EventCase, percent: float) -> float | None:
    return round(float(np.percentile(case.delays_s, percent)), 2) if case.delays_s else None


def event_cases(fps: float, repeats: int, seed: int, tick: Callable[[], object]) -> list[EventCase]:
    """Every act `repeats` times, each time with another body, camera and direction."""
    cases: dict[str, EventCase] = {}
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        for act in _all(rng):
            happens = "fall" if act.falls_at_s is not None else "hand_raised" if act.raises_at_s is not None else None
            case = cases.setdefault(act.name, EventCase(act.name, fps, happens))
            actor = Actor(act, Camera(rng.uniform(1.2, 1.7), rng.uniform(2.0, 5.5)), rng.uniform(-180, 180), COCO18)
            _count(case, act, list(events_of(actor, fps, rng)))
        tick()
    return list(cases.values())


def _all(rng: np.random.Generator) -> Iterable[Act]:
    return (act for acts in (falls, lies_down, everyday, hands) for act in acts(rng))


def events_of(actor: Actor, fps: float, rng: np.random.Generator) -> Iterable[Event]:
    """What a camera's watch says; `at_s` is the act's time."""
    watch, tracker = CameraWatch(BenchCamera(), COCO18), PoseTracker(len(COCO18.keypoints))
    times = np.arange(0, actor.act.seconds, 1 / fps)
    lies_s = np.inf if actor.act.falls_at_s is None else actor.act.falls_at_s
    for time_s, xy in zip(times.tolist(), actor.at(times), strict=True):
        poses = poses_seen(xy, rng, NOISE_PX, HIDDEN_KEYPOINTS, MISSED_PERSONS if time_s < lies_s else MISSED_LYING)
        poses = replace(poses, ids=tracker.update(poses, time_s))
        yield from watch.update(time_s, time_s, poses, actor.camera.size_wh)


def _count(case: EventCase, act: Act, events: list[Event]) -> None:
    case.runs += 1
    case.seconds += act.seconds
    started = {kind: [event.at_s for event in events if (event.kind, event.state) == (kind, "started")] for kind in ("fall", "hand_raised")}
    happened_s = act.falls_at_s if act.falls_at_s is not None else act.raises_at_s
    if case.happens and happened_s is not None:
        said = started[case.happens]
        case.delays_s += [at_s - happened_s for at_s in said[:1]]
        started[case.happens] = said[1:]
    case.false_falls += len(started["fall"])
    case.false_hands += len(started["hand_raised"])
    if not act.speed:  # who walks leaves the picture
        case.flickers += sum(event.kind == "presence" for event in events) - 1
