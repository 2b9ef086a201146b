"""A small but real site: cameras, a pipeline, hubs, and an engine that finds people.

The people are synthetic. A camera writes its number and the frame's into the corner of each picture, as bright and dark squares; the engine
reads them there and makes the maps that a perfect network would. Everything behind them is the real thing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edgepose.engines import Fit, InputContract, ModelContract, OutputContract
from edgepose.engines.engine import Execution, Maps
from edgepose.engines.errors import ConfigError, InferenceFailed
from edgepose.engines.fake import FakeEngine
from edgepose.engines.skeleton import COCO18, Skeleton
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.site import CameraState, ReloadReport
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.inferences import Result, Times
from edgepose.runtime.intake import Policy
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sources import Frame
from edgepose.runtime.synthetic import SyntheticPeople

Picture = NDArray[np.uint8]
SIZE_WH = (640, 360)
_STRIDE, _BITS, _PEOPLE = 4, 20, 2
CONTRACT = ModelContract(
    input=InputContract(name="picture", height=180, width=320, channels="BGR", mean=(0, 0, 0), std=(255, 255, 255), fit=Fit.STRETCH),
    output=OutputContract(heatmaps="heat", pafs="paf", heatmap_channels=19, paf_channels=38, stride=_STRIDE, background=True),
    skeleton=COCO18,
)
_FPS = 20


def people_of(camera: int) -> SyntheticPeople:
    return SyntheticPeople(COCO18, _PEOPLE, SIZE_WH, seed=camera)


def stamped(camera: int, index: int) -> Picture:
    """What a camera sees, its own number and the frame's in the corner."""
    picture = people_of(camera).picture(index / _FPS)
    for bit in range(_BITS):
        picture[:16, 16 * bit : 16 * bit + 16] = 255 * ((camera << 16 | index & 0xFFFF) >> bit & 1)
    return picture


def maps_from(pictures: Picture) -> Maps:
    """(N, 180, 320, 3) -> a perfect network's maps."""
    made = [_maps_of(picture) for picture in pictures]
    return Maps(np.stack([heat for heat, _ in made]), np.stack([paf for _, paf in made]))


def _maps_of(picture: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    h, w = CONTRACT.map_hw
    heat, paf = np.zeros((19, h, w), np.float32), np.zeros((38, h, w), np.float32)
    bits = picture[4, 4 : 8 * _BITS : 8, 0] > 127
    if picture[4, 4 : 8 * _BITS : 8].std(-1).max() > 4 or not bits.any():
        return heat, paf  # no camera's picture
    number = int(sum(1 << bit for bit, on in enumerate(bits) if on))
    poses = people_of(number >> 16).at((number & 0xFFFF) / _FPS)
    y, x = np.mgrid[:h, :w] + 0.5
    for person in poses.keypoints:
        cells = person[:, :2] * (w / SIZE_WH[0])
        for k in np.flatnonzero(person[:, 2]):
            heat[k] = np.maximum(heat[k], np.exp(-((x - cells[k, 0]) ** 2 + (y - cells[k, 1]) ** 2) / 2))
        for limb in COCO18.limbs:
            if person[limb.start, 2] and person[limb.end, 2]:
                _draw_limb(paf, x, y, cells[limb.start], cells[limb.end], (limb.x, limb.y))
    return heat, paf


def _draw_limb(
    paf: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64], a: Picture, b: Picture, channels: tuple[int, int]
) -> None:
    length = max(float(np.hypot(*(b - a))), 1e-3)
    ux, uy = (b - a) / length
    along, across = (x - a[0]) * ux + (y - a[1]) * uy, np.abs((y - a[1]) * ux - (x - a[0]) * uy)
    inside = (along > -1) & (along < length + 1) & (across < 1.2)
    for channel, part in zip(channels, (ux, uy), strict=True):
        paf[channel][inside] = part


@dataclass
class StampedCamera:
    """A live source; `stop` ends it."""

    number: int
    count: int | None = None
    is_video: bool = True
    is_live: bool = True
    fps: Fraction = Fraction(_FPS)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def frames(self) -> Iterator[Frame]:
        began, index = time.monotonic(), 0
        while not self._stopped.wait(max(0.0, began + index / _FPS - time.monotonic())):
            yield Frame(stamped(self.number, index), f"{index}", index, index / _FPS)
            index += 1

    def stop(self) -> None:
        self._stopped.set()


class SmallSite:
    """Implements `Site`. `broken` has the engine fail, `missing` has it not be ready, `lost` has its first camera be lost; `held` is the
    configuration."""

    def __init__(self, cameras: int = 2) -> None:
        self.results: Hub[CameraResult] = Hub()
        self.events: Hub[Event] = Hub(200)
        self.began_s = time.monotonic()
        self.broken, self.missing, self.lost, self.inferences, self.held = "", "", "", 0, 'bundle = "small.pose"'
        self._engine = FakeEngine(CONTRACT, maps_from, slots=2)
        self._estimator = PoseEstimator(FakeEngine(CONTRACT, maps_from), PafParameters(minimum_score=0.1))
        self._sources = [StampedCamera(number) for number in range(cameras)]
        self._pipeline = Pipeline(self._engine, self._sources, Policy.LATEST, PafParameters(minimum_score=0.1), tracked=True)
        self._latest: dict[str, CameraResult] = {}
        self._counts = dict.fromkeys(self.names, 0)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._publish, name="edgepose small site")

    @property
    def names(self) -> list[str]:
        return [f"camera-{source.number}" for source in self._sources]

    def __enter__(self) -> SmallSite:
        self._pipeline.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.halt()
        self._thread.join()
        self._pipeline.stop()

    def _publish(self) -> None:
        for result in self._pipeline:
            name = self.names[result.source]
            found = CameraResult(name, result, time.time())
            self._latest[name] = found
            self._counts[name] += 1
            self.results.publish(found)

    @property
    def skeleton(self) -> Skeleton:
        return COCO18

    @property
    def execution(self) -> Execution:
        return self._engine.execution

    def cameras(self) -> tuple[CameraState, ...]:
        return tuple(self._state(index, name) for index, name in enumerate(self.names))

    def _state(self, index: int, name: str) -> CameraState:
        count, latest = self._pipeline.counts[index], self._latest.get(name)
        size, at_s, age_ms = (latest.size_wh, latest.at_s, latest.age_ms) if latest else (None, None, None)
        condition, reason = ("live", "") if latest else ("connecting", "no picture yet")
        if self.lost and not index:
            condition, reason = "lost", self.lost
        return CameraState(
            name,
            condition,
            reason,
            f"stamped:{index}",
            20.0,
            count.captured,
            count.dropped,
            self._counts[name],
            0,
            0,
            0,
            size,
            at_s,
            age_ms,
        )  # type: ignore[arg-type]

    def latest(self, camera: str) -> CameraResult | None:
        if camera not in self.names:
            raise KeyError(camera)
        return self._latest.get(camera)

    def infer(self, picture: Picture, timeout_s: float) -> CameraResult:
        del timeout_s
        if self.broken:
            raise InferenceFailed(self.broken)
        with self._lock:
            self.inferences += 1
            frame, began = Frame(picture, "asked", 0, None), time.perf_counter_ns()
            poses = self._estimator.estimate(picture)
        done = time.perf_counter_ns()
        return CameraResult("", Result(0, frame, poses, Times(began, began, done, done)), time.time())

    def ready(self) -> str:
        return self.missing

    def configuration(self) -> dict[str, object]:
        return {"toml": self.held}

    def reload(self, text: str | None = None) -> ReloadReport:
        if text is None or "bundle" not in text:
            raise ConfigError("configuration: bundle: Field required")
        if "torn" in text:
            return ReloadReport(False, "torn.pose: files are missing: the old configuration was put back", ())
        self.held = text
        return ReloadReport(True, "", ("bundle: another",))


class MemoryLog:
    """A log's tail."""

    def lines(self, count: int) -> list[str]:
        return [f"2026-11-22 05:40:{second:02} INFO camera-{second % 2}: live" for second in range(60)][-count:]
