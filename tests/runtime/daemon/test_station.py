"""What `Station` does when its engine fails, is exchanged or ends, in whatever order."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
from daemon_process import until
from numpy.typing import NDArray
from small_site import CONTRACT

from edgepose.engines.engine import Maps
from edgepose.engines.errors import InferenceFailed
from edgepose.engines.fake import FakeEngine, block_means
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon import station as station_module
from edgepose.runtime.daemon.camera_settings import CameraSettings
from edgepose.runtime.daemon.patient_source import PatientSource
from edgepose.runtime.daemon.station import Station, Works
from edgepose.runtime.ffmpeg_link import FfmpegLink
from edgepose.runtime.live import LiveSource
from edgepose.runtime.paf_parameters import PafParameters

CAMERA = CameraSettings(name="hall", source="test:pattern?width=64&height=48&fps=50")
PICTURE = np.zeros((48, 64, 3), np.uint8)
PATIENCE_S = 20.0


class Engines:
    """Opens engines that fail while `broken`, as is counted; `refused` is what opening one raises."""

    def __init__(self) -> None:
        self.broken, self.opened = Event(), 0
        self.unopened = Event()
        self.refused: type[Exception] = InferenceFailed

    def __call__(self) -> FakeEngine:
        if self.unopened.is_set():
            raise self.refused("injected: it cannot be opened")
        self.opened += 1
        return FakeEngine(CONTRACT, self._maps, slots=2)

    def works(self) -> Works:
        return Works(self(), self, PafParameters())

    def _maps(self, pictures: NDArray[np.uint8]) -> Maps:
        if self.broken.is_set():
            raise InferenceFailed("injected: the device was lost")
        return block_means(pictures, CONTRACT)


@pytest.fixture
def engines() -> Engines:
    return Engines()


@pytest.fixture
def station(engines: Engines) -> Iterator[Station]:
    made = Station(engines.works())
    made.start()
    made.watch([CAMERA])
    yield made
    made.stop()


def works(station: Station) -> bool:
    """Whether the camera's frames come out of it again."""
    before = station.camera("hall").results
    until(lambda: station.camera("hall").results > before, "results", PATIENCE_S)
    return not station.trouble


def in_time(work: Callable[[], object]) -> bool:
    """Whether it comes back at all."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def lose(station: Station, engines: Engines) -> None:
    """The engine fails, and cannot be opened again for now."""
    engines.unopened.set()
    engines.broken.set()
    until(lambda: "cannot be opened" in station.trouble, "the failure, and the engine closed", PATIENCE_S)


def test_other_parameters_while_the_engine_is_lost_do_not_keep_it_from_coming_back(station: Station, engines: Engines) -> None:
    assert works(station)
    lose(station, engines)
    station.parse_with(PafParameters(threshold=0.5))
    engines.broken.clear()
    engines.unopened.clear()
    until(lambda: not station.trouble, "opened again", PATIENCE_S)
    assert works(station)


def test_an_engine_that_works_again_by_itself_is_in_no_trouble(station: Station, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where other parameters come between a failure and the opening anew, which is then not needed."""
    monkeypatch.setattr(station_module, "_PAUSES_S", (PATIENCE_S,))
    assert works(station)
    engines.broken.set()
    until(lambda: bool(station.trouble), "the failure", PATIENCE_S)
    engines.broken.clear()
    station.parse_with(PafParameters(threshold=0.5))
    assert works(station)
    assert station.infer(PICTURE, PATIENCE_S).size_wh == (64, 48)


def test_going_back_to_an_engine_that_was_closed_opens_it_again(station: Station, engines: Engines) -> None:
    before = station.exchange(engines.works())
    before.engine.close()
    station.exchange(before)
    assert works(station)


def test_another_engine_takes_the_place_of_one_that_is_lost_at_once(station: Station, engines: Engines) -> None:
    lose(station, engines)
    other = Engines().works()
    assert in_time(lambda: station.exchange(other))
    assert works(station)


def test_a_camera_that_was_removed_is_let_go_of_with_its_last_picture(station: Station) -> None:
    """Python collects what refers to itself only now and then, in a daemon that runs for long nearly never."""
    assert works(station)
    camera = weakref.ref(station.camera("hall"))
    gc.disable()
    try:
        station.watch([])
        until(lambda: camera() is None, "nothing refers to it", PATIENCE_S)
    finally:
        gc.enable()


def test_an_exchange_once_the_station_has_ended_is_refused(engines: Engines) -> None:
    station = Station(engines.works())
    station.start()
    station.stop()

    def exchange() -> None:
        with pytest.raises(InferenceFailed, match="stopping"):
            station.exchange(engines.works())

    assert in_time(exchange)


def test_an_end_answers_who_waits_for_an_exchange(engines: Engines) -> None:
    """While an engine is being opened again, which may take minutes."""
    station, opening, go_on = Station(engines.works()), Event(), Event()

    def slow() -> FakeEngine:
        opening.set()
        go_on.wait(PATIENCE_S)
        raise InferenceFailed("injected")

    station = Station(replace(engines.works(), opened=slow))
    station.start()
    engines.broken.set()
    with pytest.raises(InferenceFailed):
        station.infer(PICTURE, PATIENCE_S)
    assert opening.wait(PATIENCE_S)
    refused: list[str] = []

    def exchange() -> None:
        try:
            station.exchange(Engines().works())
        except InferenceFailed as error:
            refused.append(str(error))

    waiting = Thread(target=exchange, daemon=True)
    waiting.start()
    station.stop(0.2)
    go_on.set()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive() and refused == ["the daemon is stopping"]


def test_a_library_that_fails_in_its_own_way_when_it_is_opened_again_is_tried_again(
    station: Station, engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    engines.refused = RuntimeError
    with caplog.at_level(logging.ERROR):
        lose(station, engines)
        until(lambda: "cannot be opened" in station.trouble, "it is tried", PATIENCE_S)
    engines.broken.clear()
    engines.unopened.clear()
    assert works(station)


def test_an_engine_with_a_skeleton_that_no_parser_takes_harms_nobody(station: Station, engines: Engines) -> None:
    odd = engines.works()
    odd.engine.contract = CONTRACT.model_copy(update={"skeleton": Skeleton(name="odd", keypoints=(), limbs=())})  # type: ignore[misc]
    replaced: list[Works] = []
    assert in_time(lambda: replaced.append(station.exchange(odd)))
    with pytest.raises(InferenceFailed):
        station.infer(PICTURE, 2.0)
    station.exchange(replaced[0])
    assert works(station)


def test_exchanges_while_the_engine_fails_give_back_what_ran(station: Station, engines: Engines) -> None:
    """However the failure and the exchange fall together: what is given back is never what was put in."""
    for turn in range(20):
        if turn % 2:
            engines.broken.set()
        other = engines.works()
        before = station.exchange(other)
        assert before is not other
        before.engine.close()
        engines.broken.clear()
    assert works(station)
    assert sum(thread.name == "edgepose feed" for thread in threading.enumerate()) == 1


def test_who_asks_an_engine_that_hangs_is_told_in_time(engines: Engines) -> None:
    hanging, go_on = Event(), Event()

    def maps(pictures: NDArray[np.uint8]) -> Maps:
        hanging.set()
        go_on.wait(60)
        return block_means(pictures, CONTRACT)

    station = Station(Works(FakeEngine(CONTRACT, maps), engines, PafParameters()))
    station.start()

    def ask() -> None:
        with pytest.raises(InferenceFailed):
            station.infer(PICTURE, 0.1)

    try:
        for _ in range(8):  # more than may wait
            assert in_time(ask)
    finally:
        go_on.set()
        station.stop()


def test_an_end_answers_who_asks(engines: Engines) -> None:
    asked, go_on = Event(), Event()

    def maps(pictures: NDArray[np.uint8]) -> Maps:
        asked.set()
        go_on.wait(60)
        return block_means(pictures, CONTRACT)

    station = Station(Works(FakeEngine(CONTRACT, maps), engines, PafParameters()))
    station.start()
    told: list[str] = []

    def ask() -> None:
        try:
            station.infer(PICTURE, 60)
        except InferenceFailed as error:
            told.append(str(error))

    thread = Thread(target=ask, daemon=True)
    thread.start()
    assert asked.wait(PATIENCE_S)
    station.stop(0.2)
    thread.join(PATIENCE_S)
    go_on.set()
    assert told == ["no answer: the daemon is stopping"]


def test_a_camera_that_lets_go_of_its_source_can_be_asked_and_stopped() -> None:
    """Between two looks at it, as the thread that reads does when a stream ends."""

    class LettingGo(PatientSource):
        looks = 0

        @property
        def _source(self) -> LiveSource | None:
            self.looks += 1
            return LiveSource(FfmpegLink("rtsp://127.0.0.1:9/")) if self.looks == 1 else None

        @_source.setter
        def _source(self, source: object) -> None: ...

    assert LettingGo("hall", lambda: pytest.fail("opened")).health.reconnections == 0
    LettingGo("hall", lambda: pytest.fail("opened")).stop()
