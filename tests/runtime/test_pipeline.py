from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import painted_people
import pytest
from numpy.typing import NDArray

from edgepose.engines.engine import Maps
from edgepose.engines.errors import InferenceFailed, SourceLost
from edgepose.engines.fake import FakeEngine, block_means
from edgepose.engines.registry import open_engine
from edgepose.runtime.channel import Channel
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.intake import Intake, Policy
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sources import Frame, open_source

CONTRACT = painted_people.CONTRACT
PATIENCE_S = 30


@dataclass
class ListedSource:
    """Frames from memory; `before` is called with each frame's number before it is given out."""

    pictures: Sequence[NDArray[np.uint8]]
    before: Callable[[int], object] = lambda _: None
    count: int | None = None
    is_video: bool = True
    is_live: bool = False
    fps: Fraction | None = None
    given: int = field(default=0, init=False)

    def frames(self) -> Iterator[Frame]:
        for index, picture in enumerate(self.pictures):
            self.before(index)
            self.given += 1
            yield Frame(picture, f"{index}", index, index / 30)


def painted(count: int, first: int = 0) -> list[NDArray[np.uint8]]:
    return list(painted_people.painted_pictures(first + count)[first:])


def engine(slots: int = 2, batch: int = 1, maps_from: Callable[[NDArray[np.uint8]], Maps] | None = None) -> FakeEngine:
    return FakeEngine(CONTRACT, maps_from or (lambda pictures: block_means(pictures, CONTRACT)), slots, batch)


def edgepose_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edgepose")]


def test_every_frame_gives_the_people_that_one_picture_at_a_time_gives(painted_bundles: dict[str, Path]) -> None:
    pictures = painted(9)
    ours = open_engine(painted_bundles["ov-fp32"], "CPU", slots=3)
    wanted = [PoseEstimator(ours).estimate(picture) for picture in pictures]
    with Pipeline(ours, [ListedSource(pictures)]) as pipeline:
        results = list(pipeline)
    ours.close()
    assert [result.frame.index for result in results] == list(range(9))
    assert sum(map(len, wanted)) > 9
    for result, poses in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(result.poses.keypoints, poses.keypoints)
    assert pipeline.counts[0].captured == 9 and pipeline.counts[0].dropped == 0
    assert edgepose_threads() == []


@pytest.mark.parametrize(("slots", "batch"), [(1, 1), (2, 1), (3, 2), (1, 4)])
def test_no_frame_is_lost_and_each_source_keeps_its_order(slots: int, batch: int) -> None:
    sources = [ListedSource(painted(length)) for length in (7, 1, 4)]
    with Pipeline(engine(slots, batch), sources) as pipeline:
        results = list(pipeline)
    for index, source in enumerate(sources):
        assert [result.frame.index for result in results if result.source == index] == list(range(len(source.pictures)))


def test_all_of_a_frames_time_is_accounted_for() -> None:
    with Pipeline(engine(), [ListedSource(painted(5))]) as pipeline:
        for result in pipeline:
            times = result.times
            assert result.frame.captured_ns <= times.taken <= times.started <= times.ready <= times.found


def test_a_pipeline_that_was_not_started_is_no_silent_wait() -> None:
    with pytest.raises(ValueError, match="inside `with pipeline:`"):
        next(iter(Pipeline(engine(), [])))


def test_a_slow_reader_holds_back_the_source() -> None:
    source = ListedSource(painted(60))
    with Pipeline(engine(slots=2), [source]) as pipeline:
        next(iter(pipeline))
    assert source.given < 20
    assert edgepose_threads() == []


def test_latest_gives_the_newest_frame_and_counts_what_it_drops() -> None:
    """While the engine is busy with the first frame, seven more come; the ninth comes when the eighth has its result."""
    begun, come, found = threading.Event(), threading.Event(), threading.Event()

    def maps_from(pictures: NDArray[np.uint8]) -> Maps:
        begun.set()
        assert come.wait(PATIENCE_S)
        return block_means(pictures, CONTRACT)

    def before(index: int) -> None:
        if index == 1:
            assert begun.wait(PATIENCE_S)
        if index == 8:
            come.set()
            assert found.wait(PATIENCE_S)

    results: list[int] = []
    with Pipeline(engine(1, maps_from=maps_from), [ListedSource(painted(9), before)], Policy.LATEST) as pipeline:
        for result in pipeline:
            results.append(result.frame.index)
            if result.frame.index == 7:
                found.set()
    assert results == [0, 7, 8]
    assert pipeline.counts[0].captured == 9
    assert pipeline.counts[0].dropped + len(results) == 9


@pytest.mark.parametrize("policy", Policy)
def test_sources_take_turns(policy: Policy) -> None:
    intake = Intake(policy)
    pictures = painted(1)
    for _ in range(3):
        intake.add()
    for source in (0, 0, 0, 2):
        if policy is Policy.EVERY or source != 0 or not intake.count(0).captured:
            assert intake.put(source, Frame(pictures[0], "", 0, None))
    assert [source for source, _ in intake.take(2)] == [0, 2]


def test_an_error_of_a_source_is_raised_after_its_frames() -> None:
    def before(index: int) -> None:
        if index == 3:
            raise SourceLost("the cable was cut")

    seen = []
    with Pipeline(engine(), [ListedSource(painted(6), before)]) as pipeline, pytest.raises(SourceLost, match="cable"):
        for result in pipeline:
            seen.append(result.frame.index)
    assert seen == [0, 1, 2]
    assert edgepose_threads() == []


def test_a_mistake_in_a_source_is_raised_too() -> None:
    def before(_: int) -> None:
        raise ZeroDivisionError

    with Pipeline(engine(), [ListedSource(painted(2), before)]) as pipeline, pytest.raises(ZeroDivisionError):
        list(pipeline)


def test_a_source_that_never_comes_back_is_left_behind(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("edgepose.runtime.pipeline.STOP_S", 0.2)
    comes_back = threading.Event()
    source = ListedSource(painted(2), lambda index: index == 1 and comes_back.wait(PATIENCE_S))
    with Pipeline(engine(), [source]) as pipeline:
        next(iter(pipeline))
    assert "capture 0 does not stop" in caplog.text
    comes_back.set()


def test_an_error_of_the_engine_stops_everything() -> None:
    calls = []

    def maps_from(pictures: NDArray[np.uint8]) -> Maps:
        calls.append(1)
        if len(calls) == 3:
            raise InferenceFailed("out of memory")
        return block_means(pictures, CONTRACT)

    source = ListedSource(painted(60))
    with Pipeline(engine(maps_from=maps_from), [source]) as pipeline, pytest.raises(InferenceFailed):
        list(pipeline)
    assert source.given < 20
    assert edgepose_threads() == []


def test_after_an_interruption_every_slot_is_idle() -> None:
    ours = engine(slots=4)
    with pytest.raises(KeyboardInterrupt), Pipeline(ours, [ListedSource(painted(20))]) as pipeline:
        for _ in pipeline:
            raise KeyboardInterrupt
    for slot in ours.slots:
        slot.start()
        slot.wait()


def test_people_are_tracked_and_smoothed_in_each_source(painted_bundles: dict[str, Path]) -> None:
    ours = open_engine(painted_bundles["ov-fp32"], "CPU")
    still = painted(1) * 4
    with Pipeline(ours, [ListedSource(still), ListedSource(still)], smoothed=True) as pipeline:
        results = list(pipeline)
    ours.close()
    ids = {(result.source, tuple(result.poses.ids.tolist())) for result in results if result.poses.ids is not None}
    assert len(results) == 8 and len(ids) == 2
    assert all(found == tuple(range(1, len(found) + 1)) and found for _, found in ids)


def test_pictures_and_folders_run_through_it(painted_pictures: list[Path]) -> None:
    with Pipeline(engine(), [open_source(painted_pictures[0].parent)]) as pipeline:
        assert [result.frame.name for result in pipeline] == [path.stem for path in painted_pictures]


def test_a_channel_gives_what_it_holds_and_then_ends() -> None:
    channel = Channel[int](2)
    assert channel.put(1) and channel.put(2)
    channel.end()
    assert not channel.put(3)
    assert [channel.get(), channel.get(), channel.get()] == [1, 2, None]


def test_what_was_put_while_a_channel_ended_is_not_lost() -> None:
    channel = Channel[int](2)
    channel.end()
    channel._things.put(7)  # as a putter does that saw the channel open
    assert channel.get() == 7 and channel.get() is None and channel.get() is None


def test_who_waits_at_a_channel_is_woken_when_it_stops() -> None:
    channel = Channel[int](1)
    channel.put(1)
    waiting = threading.Thread(target=channel.put, args=(2,))
    waiting.start()
    assert channel.stop() == [1]
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
