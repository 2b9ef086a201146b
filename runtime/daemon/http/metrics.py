"""`Metrics`: what Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.http.machine import machine_state
from edgepose.runtime.daemon.site import CameraCondition, CameraState, Site

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Services = Callable[[], Mapping[str, Mapping[str, object]]]
"""Name of each service -> its `status()`."""


class Metrics:
    """`watch` is called with every result, from one thread; `text` from any."""

    def __init__(self, site: Site, services: Services) -> None:
        self._registry, self._lock = CollectorRegistry(), Lock()
        self._site = site
        self._stages = Histogram(
            "edgepose_stage_seconds",
            "Time of a frame in each stage",
            ("camera", "stage"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._ages = Histogram(
            "edgepose_result_age_seconds", "From a frame's capture to its people", ("camera",), buckets=_BUCKETS_S, registry=self._registry
        )
        self._watched: set[tuple[str, str]] = set()
        self._people: dict[str, int] = {}
        ProcessCollector(registry=self._registry)
        self._registry.register(_SiteCollector(site, services, self._people))

    def watch(self, result: CameraResult) -> None:
        with self._lock:
            for stage, ms in result.stages_ms.items():
                self._watched.add((result.camera, stage))
                self._stages.labels(result.camera, stage).observe(ms / 1e3)
            self._ages.labels(result.camera).observe(result.age_ms / 1e3)
            self._people[result.camera] = len(result.result.poses)

    def text(self) -> bytes:
        """In Prometheus' text format. Cameras that are gone from the configuration are gone from here."""
        names = {camera.name for camera in self._site.cameras()}
        with self._lock:
            for camera, stage in [pair for pair in self._watched if pair[0] not in names]:
                self._stages.remove(camera, stage)
                self._watched.discard((camera, stage))
            for camera in [camera for camera in self._people if camera not in names]:
                self._ages.remove(camera)
                del self._people[camera]
        return generate_latest(self._registry)


class _SiteCollector(Collector):
    """Asks the site when it is asked itself: nothing is kept twice."""

    def __init__(self, site: Site, services: Services, people: Mapping[str, int]) -> None:
        self._site, self._services, self._people = site, services, people

    def collect(self) -> Iterator[Metric]:
        cameras = self._site.cameras()
        yield from _camera_metrics(cameras)
        yield _gauge("edgepose_people", "People in the newest result", [((camera,), count) for camera, count in dict(self._people).items()])
        execution = self._site.execution
        yield InfoMetricFamily("edgepose_engine", "What runs the network", {"backend": execution.backend, "device": execution.device})
        yield _gauge(
            "edgepose_ready", "1 where the engine runs and every required camera gives results", [((), not self._site.ready())], ()
        )
        dropped = [((subscription.name,), subscription.dropped) for subscription in self._site.results.subscriptions]
        yield _counter("edgepose_subscription_dropped", "Results that a part of the daemon was too slow for", dropped, ("subscription",))
        yield from _machine_metrics()
        yield _gauge(
            "edgepose_service", "Numbers that the parts of the daemon tell of themselves", _numbers(self._services()), ("service", "number")
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask the site before it runs."""
        return []


def _camera_metrics(cameras: tuple[CameraState, ...]) -> Iterator[Metric]:
    counts = {
        "frames_captured": ("captured", "Frames that came from the camera"),
        "frames_dropped": ("dropped", "Frames that a newer one replaced before they were looked at"),
        "results": ("results", "Frames in which people were looked for"),
        "reconnections": ("reconnections", "Attempts to connect again"),
        "garbage": ("garbage", "Packets that could not be decoded"),
        "frozen": ("frozen", "How often the picture stood still for 10 s"),
    }
    for name, (attribute, said) in counts.items():
        yield _counter(f"edgepose_camera_{name}", said, [((camera.name,), getattr(camera, attribute)) for camera in cameras])
    yield _gauge("edgepose_camera_fps", "Results a second, lately", [((camera.name,), camera.fps) for camera in cameras])
    conditions = [((c.name, condition), c.condition == condition) for c in cameras for condition in get_args(CameraCondition)]
    yield _gauge("edgepose_camera_condition", "1 for the condition that holds", conditions, ("camera", "condition"))
    last = [((c.name,), c.last_at_s) for c in cameras if c.last_at_s is not None]
    yield _gauge("edgepose_camera_last_result_timestamp_seconds", "When the newest result's frame was captured", last)


def _machine_metrics() -> Iterator[Metric]:
    state = machine_state()
    for name, said, values in (
        ("edgepose_temperature_celsius", "Thermal zones", state.temperatures_c),
        ("edgepose_clock_hertz", "Clocks of the CPU cores", state.clocks_hz),
        ("edgepose_power_watts", "What measures its power", state.powers_w),
    ):
        yield _gauge(name, said, [((sensor,), value) for sensor, value in values.items()], ("sensor",))


def _numbers(services: Mapping[str, Mapping[str, object]]) -> list[tuple[tuple[str, ...], float]]:
    return [
        ((service, name), float(value))
        for service, status in services.items()
        for name, value in status.items()
        if isinstance(value, (int, float))
    ]


def _gauge(
    name: str, said: str, values: Iterable[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ("camera",)
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, said, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _counter(
    name: str, said: str, values: Iterable[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ("camera",)
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, said, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
