"""A real RTSP camera that dies, hangs, changes its size and sends rubbish; the pipeline goes on each time."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from rtsp_camera import RtspCamera

from edgepose.engines.fake import FakeEngine, block_means
from edgepose.runtime.camera import live_source
from edgepose.runtime.ffmpeg_link import FfmpegLink
from edgepose.runtime.inferences import Result
from edgepose.runtime.intake import Policy
from edgepose.runtime.live import LiveSource
from edgepose.runtime.pipeline import Pipeline

PATIENCE_S = 60.0
logger = logging.getLogger(__name__)

pytestmark = pytest.mark.needs("rtsp-server")


@contextmanager
def watched(tiny_model: Any, patience_s: float = 5.0) -> Iterator[tuple[RtspCamera, LiveSource, Iterator[Result]]]:
    camera = RtspCamera()
    camera.start()
    link = live_source(camera.url).link
    assert isinstance(link, FfmpegLink)
    source = LiveSource(replace(link, patience_s=patience_s))
    engine = FakeEngine(tiny_model.contract, lambda pictures: block_means(pictures, tiny_model.contract), slots=2)
    try:
        with Pipeline(engine, [source], Policy.LATEST) as pipeline:
            yield camera, source, iter(pipeline)
    finally:
        camera.kill()


def until(results: Iterator[Result], holds: Callable[[Result], bool]) -> float:
    """Seconds until a result for which it holds."""
    began = time.monotonic()
    for result in results:
        if holds(result):
            return time.monotonic() - began
        assert time.monotonic() - began < PATIENCE_S
    raise AssertionError("the pipeline ended")


def until_lost(source: LiveSource) -> None:
    began = time.monotonic()
    while not source.health.reconnections:
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.05)


def width(result: Result) -> int:
    return result.frame.picture.shape[1]


def test_a_camera_that_dies_comes_back_in_another_size(tiny_model: Any) -> None:
    with watched(tiny_model) as (camera, source, results):
        until(results, lambda result: result.frame.index >= 5)
        camera.kill()
        camera.start("320x240")
        logger.info(f"another size after {until(results, lambda result: width(result) == 320):.2f} s")
        assert source.health.reconnections >= 1
        first = source.health.reconnections
        camera.kill()
        camera.start("160x96")
        logger.info(f"back after {until(results, lambda result: width(result) == 160):.2f} s")
        assert source.health.reconnections > first


def test_a_camera_that_hangs_is_given_up_and_taken_again(tiny_model: Any) -> None:
    with watched(tiny_model, patience_s=1.0) as (camera, source, results):
        until(results, lambda result: result.frame.index >= 5)
        last = next(results).frame.index
        camera.send(signal.SIGSTOP)
        until_lost(source)
        camera.send(signal.SIGCONT)
        logger.info(f"awake after {until(results, lambda result: result.frame.index > last + 10):.2f} s")


def test_rubbish_in_the_stream_is_survived(tiny_model: Any) -> None:
    with watched(tiny_model) as (camera, source, results):
        until(results, lambda result: result.frame.index >= 5)
        camera.kill()
        camera.start("320x240", breaking=0.01)
        logger.info(f"rubbish after {until(results, lambda result: width(result) == 320):.2f} s")
        until(results, lambda _: source.health.garbage > 0)
        camera.kill()
        camera.start("160x96")
        logger.info(f"clean after {until(results, lambda result: width(result) == 160):.2f} s")


def test_a_pipeline_stops_though_its_camera_is_gone(tiny_model: Any, caplog: pytest.LogCaptureFixture) -> None:
    with watched(tiny_model) as (camera, source, results):
        until(results, lambda result: result.frame.index >= 5)
        camera.kill()
        until_lost(source)
    assert "left behind" not in caplog.text


@pytest.fixture(autouse=True)
def quiet_ffmpeg() -> Iterator[None]:
    """FFmpeg says on stderr what it conceals."""
    import av.logging

    before = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    yield
    av.logging.set_level(before)
