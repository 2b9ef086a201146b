"""What a camera's watch says of people whose every move is known: who is there, where, who falls and who does not, who raises a hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from camera_results import poses_of

from edgepose.benchmarks.acting_people import Act, Actor, Camera, everyday, falls, hands, lies_down, poses_seen
from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import BODY25, BUILT_IN_SKELETONS, COCO18, MPII15, Limb, Skeleton
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.events.settings import EventSettings, FallSettings, HandRaisedSettings, PresenceSettings, ZoneSettings
from edgepose.runtime.daemon.events.watch import CameraWatch, FrameClock
from edgepose.runtime.poses import Poses, no_poses

WH = (1000, 500)
Person = dict[str, tuple[float, float]]
LEFT = ZoneSettings(name="left", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
PRESENCE = PresenceSettings(kind="presence", after_s=0.2, until_s=0.5)
FALL, HAND = FallSettings(kind="fall"), HandRaisedSettings(kind="hand_raised")


@dataclass(frozen=True)
class Watched:
    events: tuple[EventSettings, ...]
    zones: tuple[ZoneSettings, ...] = ()
    track: bool = True
    smooth: bool = False
    name: str = "door"


def standing_at(x: float, feet: float) -> Person:
    """In pixels, 200 tall."""
    return {
        **{"nose": (x, feet - 180), "neck": (x, feet - 160), "left_hip": (x + 10, feet - 100), "right_hip": (x - 10, feet - 100)},
        **{"left_ankle": (x + 10, feet), "right_ankle": (x - 10, feet)},
    }


def said(watch: CameraWatch, people: Sequence[Sequence[Person]], fps: float = 10, first_s: float = 0) -> list[Event]:
    events = []
    for index, frame in enumerate(people):
        at_s = first_s + index / fps
        events += watch.update(at_s, at_s, poses_of(frame, ids=range(1, len(frame) + 1)), WH)
    return events


def seen_by_a_camera(
    act: Act, settings: EventSettings, skeleton: Skeleton = COCO18, heading: float = 30, fps: float = 15, person: int = 4, seed: int = 0
) -> list[Event]:
    """Tracked, with noise and hidden keypoints."""
    watch, rng = CameraWatch(Watched((settings,)), skeleton), np.random.default_rng(seed)
    actor, times = Actor(act, Camera(1.4, 3.5), heading, skeleton), np.arange(0, act.seconds, 1 / fps)
    events = []
    for time_s, xy in zip(times.tolist(), actor.at(times), strict=True):
        poses = poses_seen(xy, rng, 3, 0.05, 0.03)
        poses = dataclasses.replace(poses, ids=np.full(len(poses), person, np.int64))
        events += watch.update(time_s, time_s, poses, actor.camera.size_wh)
    return events


def test_presence_starts_changes_and_ends() -> None:
    one, two = standing_at(200, 400), standing_at(700, 400)
    events = said(CameraWatch(Watched((PRESENCE,)), COCO18), [[]] * 3 + [[one]] * 10 + [[one, two]] * 10 + [[]] * 10)
    assert [(event.state, event.count) for event in events] == [("started", 1), ("changed", 2), ("ended", 0)]
    assert [event.at_s for event in events] == pytest.approx([0.5, 1.5, 2.7], abs=0.11)
    assert {event.zone for event in events} == {None}


def test_a_missed_frame_does_not_flicker() -> None:
    one = standing_at(200, 400)
    events = said(CameraWatch(Watched((PRESENCE,)), COCO18), ([[one]] * 9 + [[]]) * 10)
    assert [event.state for event in events] == ["started"]


def test_people_are_where_their_feet_are() -> None:
    """The left zone holds feet at its side, wherever the head is; a person cut off below by the picture's edge counts there."""
    settings = PresenceSettings(kind="presence", zones=("left",), after_s=0, until_s=0)
    leaning = {**standing_at(480, 400), "nose": (700.0, 250.0), "neck": (650.0, 270.0)}
    cut_off = {"nose": (100.0, 300.0), "neck": (100.0, 330.0), "left_hip": (90.0, 520.0)}
    no_legs = {"nose": (800.0, 300.0), "neck": (800.0, 350.0)}
    for person, count in ((leaning, 1), (cut_off, 1), (no_legs, 0), (standing_at(520, 400), 0)):
        events = said(CameraWatch(Watched((settings,), (LEFT,)), COCO18), [[person]] * 2)
        assert [(event.zone, event.count) for event in events] == [("left", 1)] * count


def test_zones_are_counted_each_for_itself() -> None:
    right = ZoneSettings(name="right", polygon=((0.5, 0), (1, 0), (1, 1), (0.5, 1)))
    settings = PresenceSettings(kind="presence", zones=("left", "right"), after_s=0, until_s=0)
    watch = CameraWatch(Watched((settings,), (LEFT, right)), COCO18)
    people = [standing_at(100, 400), standing_at(200, 420), standing_at(800, 400)]
    assert {(event.zone, event.count) for event in said(watch, [people])} == {("left", 2), ("right", 1)}


@pytest.mark.parametrize("fps", [5, 10, 30])
@pytest.mark.parametrize("heading", [-90, 0, 60, 135])
def test_falls_are_found(fps: float, heading: float) -> None:
    """All but the one that slides down a wall in two seconds."""
    for act in falls(np.random.default_rng(3))[:-1]:
        events = seen_by_a_camera(act, FALL, heading=heading, fps=fps)
        assert [(event.state, event.person) for event in events] == [("started", 4)], act.name
        assert act.falls_at_s is not None and 1 < events[0].at_s - act.falls_at_s < 3
        assert float(events[0].detail["speed"]) >= 0.5


@pytest.mark.parametrize("heading", [-90, 0, 60, 135])
def test_everyday_life_is_no_fall(heading: float) -> None:
    """Shoes are tied now and then in the benchmark's false alarms."""
    rng = np.random.default_rng(5)
    for act in (*everyday(rng)[:-1], *hands(rng), *lies_down(rng)):
        assert seen_by_a_camera(act, FALL, heading=heading) == [], act.name


def test_who_lies_down_slowly_is_told_of_where_that_is_wanted() -> None:
    act = lies_down(np.random.default_rng(1))[0]
    events = seen_by_a_camera(act, FallSettings(kind="fall", speed=0), heading=0)
    assert [event.state for event in events] == ["started", "ended"], "and has ended when they are up again"


def test_a_fall_ends_when_the_person_gets_up() -> None:
    fall = falls(np.random.default_rng(2))[0]
    up = Act("and up", (*fall.keys, (fall.seconds + 2, fall.keys[0][1]), (fall.seconds + 8, fall.keys[0][1])), toward=fall.toward)
    events = seen_by_a_camera(up, FALL, heading=20)
    assert [event.state for event in events] == ["started", "ended"]
    assert fall.seconds + 3 < events[1].at_s < fall.seconds + 6


def test_a_fallen_person_who_is_lost_ends_the_event() -> None:
    fall = falls(np.random.default_rng(2))[2]
    watch = CameraWatch(Watched((FALL,)), COCO18)
    actor, times = Actor(fall, Camera(1.4, 3.5), 0, COCO18), np.arange(0, fall.seconds, 0.1)
    events = []
    for time_s, xy in zip(times.tolist(), actor.at(times), strict=True):
        poses = dataclasses.replace(poses_seen(xy, np.random.default_rng(0), 0, 0, 0), ids=np.array([1]))
        events += watch.update(time_s, time_s, poses, actor.camera.size_wh)
    for index in range(60):
        at_s = fall.seconds + index / 10
        events += watch.update(at_s, at_s, no_poses(18), actor.camera.size_wh)
    assert [event.state for event in events] == ["started", "ended"]
    assert events[1].detail == {"reason": "not seen any more"}
    assert events[1].at_s == pytest.approx(fall.seconds + 3, abs=0.3)


def test_a_new_id_in_the_middle_of_a_fall_is_the_same_person() -> None:
    fall = falls(np.random.default_rng(2))[0]
    assert fall.falls_at_s is not None
    watch = CameraWatch(Watched((FALL,)), COCO18)
    actor, times = Actor(fall, Camera(1.4, 3.5), 0, COCO18), np.arange(0, fall.seconds, 0.1)
    events = []
    for time_s, xy in zip(times.tolist(), actor.at(times), strict=True):
        if fall.falls_at_s - 0.2 < time_s < fall.falls_at_s + 0.8:
            poses = no_poses(18)
        else:
            person = 1 if time_s < fall.falls_at_s else 2
            poses = dataclasses.replace(poses_seen(xy, np.random.default_rng(0), 0, 0, 0), ids=np.array([person]))
        events += watch.update(time_s, time_s, poses, actor.camera.size_wh)
    assert [(event.state, event.person) for event in events] == [("started", 1)]


def test_no_two_people_are_told_of_under_one_id() -> None:
    """Somebody is hidden by somebody else, who is taken for the same person until the first is back."""
    watch, first, second = CameraWatch(Watched((HAND,)), COCO18), standing_at(400, 400), standing_at(480, 400)
    first["left_wrist"], second["left_wrist"] = (400, 190), (480, 190)
    scenes: list[tuple[int, dict[int, Person]]] = [(10, {1: first}), (5, {2: second}), (10, {2: second, 1: first}), (15, {2: second})]
    events, frames = [], [people for count, people in scenes for _ in range(count)]
    for index, people in enumerate(frames):
        events += watch.update(index / 10, index / 10, poses_of([*people.values()], ids=[*people]), WH)
    assert [(event.state, event.person) for event in events] == [("started", 1), ("started", 2), ("ended", 1)]


def test_a_fall_counts_in_the_zone_where_the_person_lies() -> None:
    fall = falls(np.random.default_rng(2))[2]
    half = ZoneSettings(name="nowhere", polygon=((0, 0), (0.05, 0), (0, 0.05)))
    whole = ZoneSettings(name="floor", polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
    settings = FallSettings(kind="fall", zones=("nowhere", "floor", "floor"))
    watch = CameraWatch(Watched((settings,), (half, whole)), COCO18)
    actor, times = Actor(fall, Camera(1.4, 3.5), 0, COCO18), np.arange(0, fall.seconds, 0.1)
    events = []
    for time_s, xy in zip(times.tolist(), actor.at(times), strict=True):
        poses = dataclasses.replace(poses_seen(xy, np.random.default_rng(0), 0, 0, 0), ids=np.array([1]))
        events += watch.update(time_s, time_s, poses, actor.camera.size_wh)
    assert [(event.state, event.zone) for event in events] == [("started", "floor")]


@pytest.mark.parametrize("skeleton", BUILT_IN_SKELETONS, ids=lambda skeleton: skeleton.name)
def test_every_built_in_skeleton_finds_falls_and_hands(skeleton: Skeleton) -> None:
    rng = np.random.default_rng(4)
    assert [event.state for event in seen_by_a_camera(falls(rng)[0], FALL, skeleton, heading=10)] == ["started"]
    assert [event.state for event in seen_by_a_camera(hands(rng)[0], HAND, skeleton)] == ["started", "ended"]


@pytest.mark.parametrize("fps", [5, 30])
def test_raised_hands_are_found_and_others_are_not(fps: float) -> None:
    for act in hands(np.random.default_rng(7)):
        events = seen_by_a_camera(act, HAND, fps=fps)
        assert [event.state for event in events] == (["started", "ended"] if act.raises_at_s else []), act.name
        if act.raises_at_s:
            assert -0.2 < events[0].at_s - act.raises_at_s < 1


def test_a_clock_that_jumps_is_taken_as_it_goes_on() -> None:
    clock = FrameClock()
    assert [clock.at(time_s) for time_s in (100.0, 100.1, 3.0, 3.1, 5000.0, 5000.1)] == pytest.approx([0, 0.1, 0.1, 0.2, 10.2, 10.3])


def test_a_video_that_begins_anew_keeps_its_people() -> None:
    watch, one = CameraWatch(Watched((PRESENCE,)), COCO18), standing_at(200, 400)
    events = said(watch, [[one]] * 20, first_s=50) + said(watch, [[one]] * 20)
    assert [event.state for event in events] == ["started"]


def test_closing_ends_what_lasts_and_starts_anew_afterwards() -> None:
    watch, one = CameraWatch(Watched((PRESENCE,)), COCO18), standing_at(200, 400)
    said(watch, [[one]] * 5)
    ended = watch.close(7.0, "no picture")
    assert [(event.state, event.at_s, event.count, event.detail) for event in ended] == [("ended", 7.0, 0, {"reason": "no picture"})]
    assert watch.close(8.0, "no picture") == []
    assert [event.state for event in said(watch, [[one]] * 5, first_s=10)] == ["started"]


def test_another_size_of_the_picture_is_the_same_scene() -> None:
    watch, rng = CameraWatch(Watched((FALL, HAND)), COCO18), np.random.default_rng(0)
    act = everyday(rng)[0]
    for wh in ((1280, 720), (640, 360), (1920, 1080)):
        actor = Actor(act, Camera(1.4, 3.5, size_wh=wh), 0, COCO18)
        for time_s in np.arange(0, 3, 0.1):
            xy = actor.at(np.array([time_s]))[0]
            poses = dataclasses.replace(poses_seen(xy, rng, 0, 0, 0), ids=np.array([1]))
            assert watch.update(time_s, time_s, poses, wh) == []


def test_poses_of_nothing_and_of_single_keypoints_are_taken() -> None:
    watch = CameraWatch(Watched((PRESENCE, FALL, HAND)), COCO18)
    for name in COCO18.keypoints:
        said(watch, [[{name: (5.0, 5.0)}], [{}], []])
    infinite = Poses(np.full((1, 18, 3), np.inf, np.float32), np.ones(1, np.float32), np.array([1]))
    watch.update(1000.0, 0, infinite, WH)


def test_what_a_skeleton_lacks_is_said() -> None:
    legs = Skeleton(name="legs", keypoints=("left_hip", "right_hip", "left_ankle"), limbs=(Limb(start=0, end=1, x=0, y=1),))
    CameraWatch(Watched((PRESENCE,)), legs)
    with pytest.raises(ConfigError, match="'fall' needs the shoulders of people, and skeleton 'legs' has no left_shoulder and right_"):
        CameraWatch(Watched((FALL,)), legs)
    with pytest.raises(ConfigError, match="'hand_raised' needs the wrists"):
        CameraWatch(Watched((HAND,)), legs)
    assert {BODY25.name, MPII15.name} <= {skeleton.name for skeleton in BUILT_IN_SKELETONS}


@pytest.mark.parametrize(
    ("camera", "told"),
    [
        (Watched((FALL,), track=False), "set track = true"),
        (Watched((PresenceSettings(kind="presence", zones=("lift",)),), (LEFT,)), "did you mean 'left'"),
        (Watched((PresenceSettings(kind="presence", zones=("left",)),)), "this camera has no zones"),
        (Watched((PRESENCE,), (LEFT, LEFT)), "two zones 'left'"),
    ],
)
def test_what_a_camera_cannot_watch_for_is_said(camera: Watched, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        CameraWatch(camera, COCO18)


def test_smoothing_tracks_too() -> None:
    CameraWatch(Watched((FALL,), track=False, smooth=True), COCO18)
