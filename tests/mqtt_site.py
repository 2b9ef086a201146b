"""A daemon as its MQTT client sees it, without one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from camera_results import EPOCH_S
from mqtt_broker import Broker, Listener, wait_until

from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.config import DaemonSettings
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.mqtt import MqttClient
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.services import Services, service_plans
from edgepose.runtime.daemon.site import CameraState

DOOR = {
    "name": "door",
    "zones": [{"name": "mat", "polygon": [[0, 0], [1, 0], [1, 1]]}],
    "events": [{"kind": "presence", "zones": ["mat"]}, {"kind": "fall", "zones": []}, {"kind": "hand_raised"}],
}
YARD = {"name": "yard", "zones": [], "events": [{"kind": "presence", "zones": []}]}


class BenchSite:
    """What the client asks of the daemon, which is less than a `Site`: hence `Any` where it stands for one."""

    skeleton = COCO18

    def __init__(self, *cameras: dict[str, Any]) -> None:
        self.results, self.events = Hub[CameraResult](), Hub[Event]()
        self.configured = list(cameras) or [DOOR]
        self.condition: Any = "live"
        self.last: dict[str, CameraResult] = {}

    def cameras(self) -> tuple[CameraState, ...]:
        return tuple(
            CameraState(str(each["name"]), self.condition, "", "test:pattern", 10, 1, 0, 1, 0, 0, 0, (640, 360), None, None)
            for each in self.configured
        )

    def latest(self, camera: str) -> CameraResult | None:
        return self.last.get(camera)

    def configuration(self) -> dict[str, object]:
        return {"cameras": self.configured}

    def give(self, result: CameraResult) -> None:
        self.last[result.camera] = result
        self.results.publish(result)


@contextmanager
def listening(broker: Broker, *topics: str, name: str = "") -> Iterator[Listener]:
    listener = Listener(broker, *topics, name=name)
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def connected(site: Any, port: int, wait: bool = True, **settings: Any) -> Iterator[MqttClient]:
    client = MqttClient(MqttSettings.parse({"host": "127.0.0.1", "port": port, **settings}, "mqtt"), site)
    client.start()
    try:
        if wait:
            wait_until(lambda: bool(client.status()["connected"]))
        yield client
    finally:
        began = time.monotonic()
        client.stop(5)
        assert time.monotonic() - began < 4
        assert not client._thread.is_alive()


def apply(services: Services, site: Any, port: int, *cameras: dict[str, Any], **more: Any) -> list[str]:
    """As a reload does: the services first, then the configuration that holds."""
    told: dict[str, Any] = {"bundle": "x", "cameras": [{**each, "source": "test:pattern"} for each in cameras]}
    told["mqtt"] = {"host": "127.0.0.1", "port": port, **more}
    changes = services.apply(service_plans(DaemonSettings.parse(told, "test"), site))
    site.configured = list(cameras)
    return changes


def event(index: int, state: Any = "happened", kind: str = "hook", **more: Any) -> Event:
    return Event("door", kind, state, EPOCH_S + index, **more)


def indices(listener: Listener, topic: str = "edgepose/events") -> list[int]:
    return [round(json.loads(payload)["at"] - EPOCH_S) for payload in listener.of(topic)]
