"""What Home Assistant is told of a daemon, its cameras and their events, by its MQTT discovery.

One retained message an entity, on `PREFIX/COMPONENT/NODE/OBJECT/config`, see
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery; all entities belong to one device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_args

import orjson

from edgepose.runtime.daemon.site import CameraCondition

_CLASSES = {"presence": "occupancy", "fall": "safety"}
_ICONS = {"fall": "mdi:alert", "hand_raised": "mdi:human-greeting-variant"}
SAID_AS = {"presence": "somebody there", "fall": "fall", "hand_raised": "hand raised"}


@dataclass(frozen=True, slots=True)
class Watched:
    """One kind of event of one camera in one zone; None: the whole picture."""

    camera: str
    kind: str
    zone: str | None


@dataclass(frozen=True, slots=True)
class Topics:
    """Where this daemon's messages go; `base` is what all of them begin with."""

    base: str

    @property
    def node(self) -> str:
        """The base as Home Assistant's ids want it: letters, digits, - and _."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.base)

    @property
    def availability(self) -> str:
        return f"{self.base}/availability"

    @property
    def events(self) -> str:
        return f"{self.base}/events"

    @property
    def retained(self) -> tuple[str, ...]:
        """Filters for what the broker keeps of our cameras, those of an earlier run too, and of no daemon whose base goes on from ours."""
        states = tuple(f"{self.base}/{place}/state/{kind}" for kind in SAID_AS for place in ("+", "+/zone/+"))
        return f"{self.base}/+/condition", f"{self.base}/+/count", f"{self.base}/+/zone/+/count", *states

    def of_camera(self, camera: str, what: str) -> str:
        """`what` is poses, count or condition."""
        return f"{self.base}/{_level(camera)}/{what}"

    def event(self, camera: str, kind: str) -> str:
        return f"{self.base}/{_level(camera)}/event/{_level(kind)}"

    def state(self, watched: Watched) -> str:
        """ON or OFF."""
        return f"{self._place(watched.camera, watched.zone)}/state/{_level(watched.kind)}"

    def count(self, camera: str, zone: str | None) -> str:
        """How many are in the zone."""
        return f"{self._place(camera, zone)}/count"

    def _place(self, camera: str, zone: str | None) -> str:
        return f"{self.base}/{_level(camera)}" + (f"/zone/{_level(zone)}" if zone else "")


def watched_by(cameras: Sequence[Mapping[str, Any]]) -> list[Watched]:
    """From `cameras` of the configuration, each once."""
    found = (
        Watched(str(camera["name"]), str(event["kind"]), zone)
        for camera in cameras
        for event in camera.get("events") or ()
        for zone in event.get("zones") or (None,)
    )
    return list(dict.fromkeys(found))


def discovery_messages(prefix: str, topics: Topics, cameras: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Topic -> JSON."""
    messages = {}
    device = {
        "identifiers": [f"edgepose_{topics.node}"],
        "name": topics.base,
        "manufacturer": "edgepose",
        "model": "pose-daemon",
        "sw_version": version("edgepose"),
    }
    shared = {"device": device, "origin": {"name": "edgepose", "sw_version": version("edgepose")}}
    for component, name, entity in _entities(topics, cameras):
        value = {**entity, "unique_id": f"{topics.node}_{name}", **shared}
        messages[f"{prefix}/{component}/{topics.node}/{name}/config"] = orjson.dumps(value)
    return messages


def _entities(topics: Topics, cameras: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(component, object id, what it says)."""
    for camera in (str(camera["name"]) for camera in cameras):
        yield "sensor", f"{camera}_condition", _condition(topics, camera)
        yield "sensor", f"{camera}_people", _people(topics, camera, None)
    for watched in watched_by(cameras):
        name = "_".join(part for part in (watched.camera, watched.kind, watched.zone) if part)
        yield "binary_sensor", name, _state(topics, watched)
        if watched.kind == "presence" and watched.zone:
            yield "sensor", f"{name}_people", _people(topics, watched.camera, watched.zone)
    for camera, kind in dict.fromkeys((watched.camera, watched.kind) for watched in watched_by(cameras)):
        if kind != "presence":
            yield "event", f"{camera}_{kind}_event", _event(topics, camera, kind)


def _condition(topics: Topics, camera: str) -> dict[str, Any]:
    return {
        "name": f"{camera} condition",
        "state_topic": topics.of_camera(camera, "condition"),
        "device_class": "enum",
        "options": list(get_args(CameraCondition)),
        "entity_category": "diagnostic",
        "availability_topic": topics.availability,
    }


def _people(topics: Topics, camera: str, zone: str | None) -> dict[str, Any]:
    return {
        "name": f"{camera} people" + (f" in {zone}" if zone else ""),
        "state_topic": topics.count(camera, zone),
        "state_class": "measurement",
        "unit_of_measurement": "people",
        "icon": "mdi:account-group",
        **_available(topics, camera),
    }


def _state(topics: Topics, watched: Watched) -> dict[str, Any]:
    said = SAID_AS.get(watched.kind, watched.kind)
    entity = {
        "name": f"{watched.camera} {said}" + (f" in {watched.zone}" if watched.zone else ""),
        "state_topic": topics.state(watched),
        **_available(topics, watched.camera),
    }
    if watched.kind in _CLASSES:
        entity["device_class"] = _CLASSES[watched.kind]
    return entity


def _event(topics: Topics, camera: str, kind: str) -> dict[str, Any]:
    return {
        "name": f"{camera} {SAID_AS.get(kind, kind)} event",
        "state_topic": topics.event(camera, kind),
        "event_types": ["started", "ended"],
        "icon": _ICONS.get(kind, "mdi:human"),
        "availability_topic": topics.availability,
    }


def _available(topics: Topics, camera: str) -> dict[str, Any]:
    """While the daemon is there and the camera live."""
    live = "{{ 'online' if value == 'live' else 'offline' }}"
    condition = {"topic": topics.of_camera(camera, "condition"), "value_template": live}
    return {"availability": [{"topic": topics.availability}, condition], "availability_mode": "all"}


def _level(name: str) -> str:
    """One level of a topic."""
    return re.sub(r"[/+#\x00]", "_", name) or "_"
