"""`Pipeline`: from cameras or files to people, every stage in its own thread, so that the engine never waits for another stage.

    capture (one thread a source) -> intake -> feed: preprocess, start a slot -> land: wait, parse, track -> whoever iterates

Slots go round: at most as many inferences are in flight as the engine has slots, results come in the order in which frames were taken, and
whoever is slow holds back what comes before it: the reader of results the parser, the parser the engine, the engine the intake, which
then has sources wait or drops frames, as its policy says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread
from time import perf_counter_ns
from types import TracebackType

import numpy as np

from edgepose.engines.contract import Placement
from edgepose.engines.engine import Engine, Maps, Slot
from edgepose.engines.errors import EdgePoseError
from edgepose.runtime.channel import Channel
from edgepose.runtime.intake import Count, Intake, Policy
from edgepose.runtime.paf import PafParser
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.smoothing import PoseSmoother
from edgepose.runtime.sources import Frame, Source, Stoppable
from edgepose.runtime.tracking import PoseTracker

logger = logging.getLogger(__name__)
_RESULTS_WAITING = 2
_STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Times:
    """When a frame was taken from the intake, its inference started, its maps there and its people found, by `perf_counter_ns`.

    Together with `Frame.captured_ns` this accounts for all of its time.
    """

    taken: int
    started: int
    ready: int
    found: int


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The people of one frame of source number `source`, in its pixels."""

    source: int
    frame: Frame
    poses: Poses
    times: Times


@dataclass(frozen=True, slots=True)
class _Flight:
    slot: Slot
    frames: list[tuple[int, Frame]]
    places: list[Placement]
    taken: int
    started: int


class Pipeline:
    """Runs an engine on sources. The engine is not closed.

        with Pipeline(engine, [open_source(path)]) as pipeline:
            for result in pipeline: ...

    Iterating raises the first error of any stage; a source's, after the people of all frames that were captured before it. Leaving the
    `with` stops what still runs.
    """

    def __init__(
        self,
        engine: Engine,
        sources: Sequence[Source],
        policy: Policy = Policy.EVERY,
        parameters: PafParameters | None = None,
        tracked: bool = False,
        smoothed: bool = False,
    ) -> None:
        self._engine, self._sources = engine, tuple(sources)
        self._parser = PafParser(engine.contract.skeleton, parameters)
        self._people = [_People(len(engine.contract.skeleton.keypoints), tracked or smoothed, smoothed) for _ in sources]
        slots = engine.slots
        self._intake = Intake(len(self._sources), policy)
        self._idle, self._flying = Channel[Slot](len(slots)), Channel[_Flight](len(slots))
        self._results = Channel[Result](_RESULTS_WAITING)
        for slot in slots:
            self._idle.put(slot)
        self._error: Exception | None = None
        self._threads = [self._thread("feed", self._feed), self._thread("land", self._land)]
        self._threads += [self._thread(f"capture {index}", partial(self._capture, index)) for index in range(len(self._sources))]

    @property
    def counts(self) -> tuple[Count, ...]:
        """Frames captured and dropped, by source."""
        return self._intake.counts

    def __iter__(self) -> Iterator[Result]:
        while (result := self._results.get()) is not None:
            yield result
        if self._error is not None:
            self.stop()
            raise self._error

    def __enter__(self) -> Pipeline:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops all stages and waits for what is in flight; a source that does not come back within 15 s is left behind and logged."""
        self.halt()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_S)
            if thread.is_alive():
                logger.error("%s does not stop: it is left behind", thread.name)
        for flight in self._flying.stop():
            _drain(flight.slot)

    def halt(self) -> None:
        """Has every stage return as soon as it can, and returns at once; results that wait can still be read. For a signal handler, say."""
        self._intake.stop()
        self._idle.stop()
        self._flying.end()
        self._results.end()
        for source in self._sources:
            if isinstance(source, Stoppable):
                source.stop()

    def _thread(self, name: str, work: Callable[[], None]) -> Thread:
        def guarded() -> None:
            try:
                work()
            except Exception as error:  # the top of a thread: it is raised to whoever iterates
                logger.debug("%s failed", name, exc_info=True)
                self._error = self._error or error
                self.halt()

        return Thread(target=guarded, name=f"edgepose {name}", daemon=True)

    def _capture(self, index: int) -> None:
        try:
            for frame in self._sources[index].frames():
                if not self._intake.put(index, frame):
                    return
        except EdgePoseError as error:  # no reason to lose what was captured before
            self._error = self._error or error
            self._intake.end()
        else:
            self._intake.end(index)

    def _feed(self) -> None:
        contract = self._engine.contract.input
        while (slot := self._idle.get()) is not None:
            frames = self._intake.take(len(slot.pictures))
            if not frames:
                break
            taken = perf_counter_ns()
            places = [fit_into(room, frame.picture, contract) for room, (_, frame) in zip(slot.pictures, frames, strict=False)]
            slot.start()
            if not self._flying.put(_Flight(slot, frames, places, taken, perf_counter_ns())):
                _drain(slot)
        self._flying.end()

    def _land(self) -> None:
        while (flight := self._flying.get()) is not None:
            maps = flight.slot.wait()
            ready = perf_counter_ns()
            results = [self._result(flight, row, maps, ready) for row in range(len(flight.frames))]
            self._idle.put(flight.slot)
            if not all(self._results.put(result) for result in results):
                return
        self._results.end()

    def _result(self, flight: _Flight, row: int, maps: Maps, ready: int) -> Result:
        source, frame = flight.frames[row]
        poses = self._parser.parse(maps.heatmaps[row], maps.pafs[row])
        xy = poses.keypoints[..., :2].astype(np.float64) * self._engine.contract.output.stride
        time_s = frame.captured_ns / 1e9 if frame.time_s is None else frame.time_s
        poses = self._people[source].told_apart(poses.moved(flight.places[row].picture_from_network(xy)), time_s)
        return Result(source, frame, poses, Times(flight.taken, flight.started, ready, perf_counter_ns()))


def _drain(slot: Slot) -> None:
    """Waits for an inference that nobody wants any more."""
    try:
        slot.wait()
    except EdgePoseError as error:
        logger.warning("stopping with a failed inference: %s", error)


class _People:
    """Who they are and how they move, in one source."""

    def __init__(self, keypoints: int, tracked: bool, smoothed: bool) -> None:
        self._tracker = PoseTracker(keypoints) if tracked else None
        self._smoother = PoseSmoother(keypoints) if smoothed else None

    def told_apart(self, poses: Poses, time_s: float) -> Poses:
        if self._tracker is None:
            return poses
        poses = replace(poses, ids=self._tracker.update(poses, time_s))
        return self._smoother.update(poses, time_s) if self._smoother else poses
