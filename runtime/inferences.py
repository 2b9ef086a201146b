"""`Inferences`: an engine kept busy with the frames of an intake."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Thread
from time import perf_counter_ns

import numpy as np

from edgepose.engines.contract import Placement
from edgepose.engines.engine import Engine, Maps, Slot
from edgepose.engines.errors import EdgePoseError, InferenceFailed
from edgepose.runtime.channel import Channel
from edgepose.runtime.intake import Gone, Intake
from edgepose.runtime.paf import PafParser
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sources import Frame

logger = logging.getLogger(__name__)


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


class Inferences:
    """A thread feeds the engine's slots from the intake; whoever iterates lands them: waits for the maps, and parses them.

    Results come in the order in which frames were taken, at most as many inferences are in flight as there are slots, and a slow reader
    holds back the feeding. Neither the engine nor the intake is closed. Raises InferenceFailed for an engine that was closed: it has no
    slot, and whoever iterates would wait for ever.
    """

    def __init__(self, engine: Engine, intake: Intake, parameters: PafParameters | None = None) -> None:
        self._engine, self._intake, self._gone = engine, intake, Gone()
        self._parser = PafParser(engine.contract.skeleton, parameters)
        slots = engine.slots
        if not slots:
            raise InferenceFailed("the engine is closed: open it again")
        self._idle, self._flying = Channel[Slot](len(slots)), Channel[_Flight](len(slots))
        for slot in slots:
            self._idle.put(slot)
        self._error: Exception | None = None
        self._thread = Thread(target=self._guarded, name="edgepose feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __iter__(self) -> Iterator[Result]:
        """Until the intake has ended or `halt`. Raises what the engine did."""
        while (flight := self._flying.get()) is not None:
            yield from self._landed(flight)
        if self._error is not None:
            raise self._error

    def halt(self) -> None:
        """Has the feeding end, and returns at once; what is in flight can still be landed. The intake stays as it is."""
        self._intake.leave(self._gone)
        self._idle.stop()

    def stop(self) -> None:
        """Halts, and waits for what is in flight and was not landed. For the thread that iterates."""
        self.halt()
        if self._thread.is_alive():
            self._thread.join()
        for flight in self._flying.stop():
            _drain(flight.slot)

    def _guarded(self) -> None:
        try:
            self._feed()
        except Exception as error:  # the top of a thread: it is raised to whoever iterates
            logger.debug("feeding failed", exc_info=True)
            self._error = error
        finally:
            self._flying.end()

    def _feed(self) -> None:
        contract = self._engine.contract.input
        while (slot := self._idle.get()) is not None:
            frames = self._intake.take(len(slot.pictures), self._gone)
            if not frames:
                return
            taken = perf_counter_ns()
            places = [fit_into(room, frame.picture, contract) for room, (_, frame) in zip(slot.pictures, frames, strict=False)]
            slot.start()
            if not self._flying.put(_Flight(slot, frames, places, taken, perf_counter_ns())):
                _drain(slot)

    def _landed(self, flight: _Flight) -> list[Result]:
        maps = flight.slot.wait()
        ready = perf_counter_ns()
        results = [self._result(flight, row, maps, ready) for row in range(len(flight.frames))]
        self._idle.put(flight.slot)
        return results

    def _result(self, flight: _Flight, row: int, maps: Maps, ready: int) -> Result:
        source, frame = flight.frames[row]
        poses = self._parser.parse(maps.heatmaps[row], maps.pafs[row])
        xy = poses.keypoints[..., :2].astype(np.float64) * self._engine.contract.output.stride
        poses = poses.moved(flight.places[row].picture_from_network(xy))
        return Result(source, frame, poses, Times(flight.taken, flight.started, ready, perf_counter_ns()))


def _drain(slot: Slot) -> None:
    """Waits for an inference that nobody wants any more."""
    try:
        slot.wait()
    except EdgePoseError as error:
        logger.warning("stopping with a failed inference: %s", error)
