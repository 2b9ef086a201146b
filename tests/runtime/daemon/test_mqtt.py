"""What an MQTT broker is told, by a real mosquitto that is killed, refuses, keeps silent and is slow."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from camera_results import EPOCH_S, camera_result
from mqtt_broker import PATIENCE_S, Broker, Listener, Proxy, wait_until
from ports import free_port

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import COCO18
from edgepose.runtime.daemon import mqtt, mqtt_connection
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.config import DaemonSettings
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.mqtt import MqttClient
from edgepose.runtime.daemon.mqtt_discovery import Watched
from edgepose.runtime.daemon.mqtt_lasting import Lasting
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.services import Services, service_plans
from edgepose.runtime.daemon.site import CameraState

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.needs("mosquitto")
DOOR = {
    "name": "door",
    "zones": [{"name": "mat", "polygon": [[0, 0], [1, 0], [1, 1]]}],
    "events": [{"kind": "presence", "zones": ["mat"]}, {"kind": "fall", "zones": []}, {"kind": "hand_raised"}],
}
YARD = {"name": "yard", "zones": [], "events": [{"kind": "presence", "zones": []}]}


class BenchSite:
    """What the client asks of the daemon."""

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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "_LOOK_S", 0.1)


@contextmanager
def listening(broker: Broker, *topics: str, name: str = "") -> Iterator[Listener]:
    listener = Listener(broker, *topics, name=name)
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def connected(site: BenchSite, port: int, wait: bool = True, **settings: Any) -> Iterator[MqttClient]:
    client = MqttClient(MqttSettings.parse({"host": "127.0.0.1", "port": port, **settings}, "mqtt"), site)  # type: ignore[arg-type]
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


def apply(services: Services, site: BenchSite, port: int, *cameras: dict[str, Any], **more: Any) -> list[str]:
    """As a reload does: the services first, then the configuration that holds."""
    told: dict[str, Any] = {"bundle": "x", "cameras": [{**each, "source": "test:pattern"} for each in cameras]}
    told["mqtt"] = {"host": "127.0.0.1", "port": port, **more}
    changes = services.apply(service_plans(DaemonSettings.parse(told, "test"), site))  # type: ignore[arg-type]
    site.configured = list(cameras)
    return changes


def event(index: int, state: Any = "happened", kind: str = "hook", **more: Any) -> Event:
    return Event("door", kind, state, EPOCH_S + index, **more)


def indices(listener: Listener, topic: str = "edgepose/events") -> list[int]:
    return [round(json.loads(payload)["at"] - EPOCH_S) for payload in listener.of(topic)]


def test_home_assistant_is_told_of_each_camera_and_event(broker: Broker) -> None:
    with connected(BenchSite(DOOR, YARD), broker.port), listening(broker) as live:
        live.wait(lambda heard: len({topic for topic, _, _ in heard if topic.startswith("homeassistant/")}) == 11)
    with listening(broker, "homeassistant/#") as listener:
        listener.wait(lambda heard: len(heard) == 11)
        configs = {topic: json.loads(payload) for topic, payload, retained in listener.heard if retained and topic.endswith("/config")}
    assert set(configs) == {
        f"homeassistant/{each}/config"
        for each in (
            "sensor/edgepose/door_condition",
            "sensor/edgepose/door_people",
            "sensor/edgepose/yard_condition",
            "sensor/edgepose/yard_people",
            "binary_sensor/edgepose/door_presence_mat",
            "sensor/edgepose/door_presence_mat_people",
            "binary_sensor/edgepose/door_fall",
            "binary_sensor/edgepose/door_hand_raised",
            "binary_sensor/edgepose/yard_presence",
            "event/edgepose/door_fall_event",
            "event/edgepose/door_hand_raised_event",
        )
    }
    assert len({config["unique_id"] for config in configs.values()}) == len(configs)
    assert len({json.dumps(config["device"]) for config in configs.values()}) == 1
    fall = configs["homeassistant/binary_sensor/edgepose/door_fall/config"]
    assert (fall["state_topic"], fall["device_class"], fall["availability_mode"]) == ("edgepose/door/state/fall", "safety", "all")
    assert [each["topic"] for each in fall["availability"]] == ["edgepose/availability", "edgepose/door/condition"]
    assert configs["homeassistant/event/edgepose/door_fall_event/config"]["event_types"] == ["started", "ended"]


def test_states_follow_the_events_and_are_retained(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port):
        site.give(camera_result(people=3))
        with listening(broker) as live:
            for topic, state in (("zone/mat/state/presence", b"OFF"), ("zone/mat/count", b"0"), ("state/fall", b"OFF"), ("count", b"3")):
                live.wait_for(f"edgepose/door/{topic}", state)
            live.wait_for("edgepose/door/condition", b"live")
            live.wait_for("edgepose/availability", b"online")
            site.events.publish(event(1, "started", "fall", person=1))
            site.events.publish(event(2, "started", "fall", person=2))
            site.events.publish(event(3, "ended", "fall", person=1))
            site.events.publish(event(3, "started", "presence", zone="mat", count=2))
            live.wait_for("edgepose/door/zone/mat/count", b"2")
            live.wait(lambda _: len(live.of("edgepose/events")) == 4)
            site.condition = "lost"
            live.wait_for("edgepose/door/condition", b"lost")
        with listening(broker, "edgepose/+/state/+", "edgepose/+/zone/#") as later:
            later.wait_for("edgepose/door/state/fall", b"ON")
            later.wait_for("edgepose/door/zone/mat/state/presence", b"ON")
            site.events.publish(event(4, "ended", "fall", person=2))
            later.wait_for("edgepose/door/state/fall", b"OFF")


def test_reloads_leave_what_lasts_in_undisturbed_cameras_alone(broker: Broker) -> None:
    """Applied, refused and put back, and with other settings of MQTT."""
    site, services = BenchSite(), Services()
    state, count = "edgepose/door/zone/mat/state/presence", "edgepose/door/zone/mat/count"
    apply(services, site, broker.port, DOOR)
    try:
        with listening(broker, state, count, "edgepose/door/state/fall", "edgepose/yard/state/+") as listener:
            site.events.publish(event(1, "started", "presence", zone="mat", count=2))
            site.events.publish(event(1, "changed", "presence", zone="mat", count=6))
            site.events.publish(event(2, "started", "fall", person=3))
            listener.wait_for(count, b"6")
            listener.wait_for("edgepose/door/state/fall", b"ON")
            listener.forget()
            client = services._running["mqtt"][1]
            site.events.publish(Event("yard", "presence", "started", EPOCH_S, count=1))  # while the configuration is tried
            assert not [change for change in apply(services, site, broker.port, DOOR, YARD) if change.startswith("mqtt")]
            listener.wait_for("edgepose/yard/state/presence", b"ON")
            assert not [change for change in apply(services, site, broker.port, DOOR) if change.startswith("mqtt")]
            listener.wait_for("edgepose/yard/state/presence", b"")
            assert "mqtt: adjusted" in apply(services, site, broker.port, DOOR, poses_per_s=1)
            wait_until(lambda: client.status()["connections"] == 2)
            listener.wait(lambda _: listener.of(count))
            assert set(listener.of(count)) == {b"6"} and set(listener.of(state) + listener.of("edgepose/door/state/fall")) == {b"ON"}
            with pytest.raises(ConfigError, match="No such file"):
                apply(services, site, broker.port, DOOR, username="u", password_file="/nowhere/secret")
            assert services._running["mqtt"][1] is client and client.status()["connections"] == 2
    finally:
        services.stop(5)


def test_a_change_lasts_though_its_beginning_was_lost(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port), listening(broker, "edgepose/door/zone/mat/#") as listener:
        site.events.publish(event(1, "changed", "presence", zone="mat", count=2))
        listener.wait_for("edgepose/door/zone/mat/state/presence", b"ON")
        listener.wait_for("edgepose/door/zone/mat/count", b"2")
        site.events.publish(event(2, "ended", "presence", zone="mat", count=0))
        listener.wait_for("edgepose/door/zone/mat/count", b"0")


def test_a_hook_that_never_ends_anything_costs_no_memory() -> None:
    lasting = Lasting()
    for index in range(3000):
        lasting.note(Watched("door", "fall", None), event(index, "started", "fall", person=index))
        lasting.note(Watched("door", "fall", str(index)), event(index, "started", "fall"))
    assert len(lasting._doing) == 1000 == max(map(len, lasting._doing.values()))
    assert Watched("door", "fall", "2999") in lasting and Watched("door", "fall", "0") not in lasting


def test_events_come_as_json_on_both_topics(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port), listening(broker, "edgepose/events", "edgepose/door/event/+") as listener:
        site.events.publish(event(1, "started", "fall", person=7, detail={"speed": 0.9}))
        heard = listener.wait(lambda heard: len(heard) == 2)
    (all_topic, everything, _), (own_topic, own, _) = heard
    assert (all_topic, own_topic) == ("edgepose/events", "edgepose/door/event/fall")
    assert json.loads(everything) == {
        **{"at": EPOCH_S + 1, "camera": "door", "kind": "fall", "state": "started", "zone": None, "person": 7, "count": None},
        "detail": {"speed": 0.9},
    }
    assert json.loads(own) == {"event_type": "started", **json.loads(everything)}


def test_poses_come_at_most_so_often(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port, poses_per_s=10), listening(broker, "edgepose/door/poses") as listener:
        began = time.monotonic()
        index = 0
        while len(listener.of("edgepose/door/poses")) < 8:
            assert time.monotonic() - began < PATIENCE_S
            site.give(camera_result(index=index))
            index += 1
            time.sleep(0.01)
        took_s = time.monotonic() - began
        found = [json.loads(payload) for payload in listener.of("edgepose/door/poses")]
    assert took_s >= 7 / 10 - 0.15 and index > 20
    assert [pose["index"] for pose in found] == sorted(pose["index"] for pose in found)
    assert len(found[0]["people"]) == 1 and found[0]["camera"] == "door"


def test_no_poses_where_none_are_wanted(broker: Broker) -> None:
    site = BenchSite()
    with connected(site, broker.port, poses_per_s=0) as client, listening(broker, "edgepose/#") as listener:
        for index in range(20):
            site.give(camera_result(index=index))
        site.events.publish(event(1))
        listener.wait(lambda _: listener.of("edgepose/events"))
        assert not listener.of("edgepose/door/poses") and client.status()["poses_sent"] == 0


def test_what_is_no_longer_configured_is_taken_down_in_home_assistant(broker: Broker) -> None:
    site = BenchSite(DOOR, YARD)
    with listening(broker) as listener:
        listener.say("homeassistant/sensor/edgepose/left_by_an_earlier_run/config", b"{}", retain=True)
        with connected(site, broker.port):
            listener.wait_for("homeassistant/sensor/edgepose/left_by_an_earlier_run/config", b"")
            listener.wait(lambda _: listener.of("homeassistant/binary_sensor/edgepose/yard_presence/config"))
            site.configured = [DOOR]
            listener.wait_for("homeassistant/binary_sensor/edgepose/yard_presence/config", b"")
            listener.wait_for("homeassistant/sensor/edgepose/yard_people/config", b"")
            listener.wait_for("edgepose/yard/state/presence", b"")
    with listening(broker) as later:
        later.wait(lambda heard: any(topic.endswith("door_fall/config") for topic, _, _ in heard))
        assert not any("yard" in topic or "earlier" in topic for topic, _, _ in later.heard if topic.startswith("homeassistant/"))


def test_discovery_that_is_switched_off_takes_everything_down_in_home_assistant(broker: Broker) -> None:
    site = BenchSite(DOOR)
    with listening(broker, "homeassistant/#") as live, connected(site, broker.port):
        live.wait(lambda heard: len(heard) == 8)
    with listening(broker, "homeassistant/#") as live, connected(site, broker.port, discovery=False):
        live.wait(lambda heard: len({topic for topic, payload, _ in heard if not payload}) == 8)
    with listening(broker, "homeassistant/#", "edgepose/availability") as live:
        assert [topic for topic, _, _ in live.wait(len)] == ["edgepose/availability"]


def test_what_the_broker_keeps_of_removed_cameras_is_taken_down(broker: Broker) -> None:
    left = (
        "yard/condition",
        "yard/count",
        "yard/state/presence",
        "yard/zone/gate/state/fall",
        "yard/zone/gate/count",
        "door/state/presence",
    )
    others = {"edgepose/kitchen/state/condition": b"live", "edgepose/door/count": b"4", "edgepose/yard/mine": b"x"}
    with listening(broker) as listener:
        for topic in left:
            listener.say(f"edgepose/{topic}", b"1", retain=True)
        for topic, payload in others.items():
            listener.say(topic, payload, retain=True)
        site = BenchSite(DOOR, {**YARD, "name": "lawn"})
        site.last["lawn"] = camera_result("lawn")
        with connected(site, broker.port):
            for topic in left:
                listener.wait_for(f"edgepose/{topic}", b"")
            listener.wait(lambda _: listener.of("edgepose/lawn/count"))
            site.configured = [DOOR]
            for topic in ("condition", "count", "state/presence"):
                listener.wait_for(f"edgepose/lawn/{topic}", b"")
    with listening(broker, "edgepose/#") as later:
        later.say("edgepose/heard", b"everything")
        later.wait_for("edgepose/heard", b"everything")
        kept = {topic: payload for topic, payload, _ in later.heard}
    assert not [topic for topic in kept if "lawn" in topic or topic.removeprefix("edgepose/") in left]
    assert kept.items() >= others.items()


def test_home_assistants_birth_has_everything_sent_again(broker: Broker) -> None:
    both = ("homeassistant/binary_sensor/edgepose/door_fall/config", "edgepose/door/state/fall")
    with connected(BenchSite(), broker.port), listening(broker, *both) as listener:
        listener.wait(lambda heard: {topic for topic, _, _ in heard} == set(both))
        listener.forget()
        listener.say("homeassistant/status", b"online")
        heard = listener.wait(lambda heard: {topic for topic, _, _ in heard} == set(both))
        assert not any(retained for _, _, retained in heard), "sent anew, not from the broker's memory"


def test_an_offline_of_an_older_connection_is_put_right(broker: Broker) -> None:
    """The will of a connection that was cut off comes when the broker notices, which may be after the next one was made."""
    with connected(BenchSite(), broker.port), listening(broker, "edgepose/availability") as listener:
        listener.wait_for("edgepose/availability", b"online")
        listener.forget()
        listener.say("edgepose/availability", b"offline", retain=True)
        listener.wait(lambda _: listener.of("edgepose/availability") == [b"offline", b"online"])


def test_stopping_delivers_the_events_and_says_offline(broker: Broker) -> None:
    site = BenchSite()
    with listening(broker, "edgepose/#") as listener:
        with connected(site, broker.port) as client:
            for index in range(100):
                site.events.publish(event(index))
        listener.wait_for("edgepose/availability", b"offline")
        assert indices(listener) == list(range(100))
        assert client.status()["delivered"] == 100 and client.status()["buffered"] == 0


CLIENT = """
import sys, threading
sys.path[:0] = [{tests!r}, {here!r}]
from test_mqtt import BenchSite
from edgepose.runtime.daemon.mqtt import MqttClient
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
MqttClient(MqttSettings(host="127.0.0.1", port={port}), BenchSite()).start()
threading.Event().wait()
"""


def test_the_broker_says_offline_for_a_daemon_that_is_killed(broker: Broker) -> None:
    code = CLIENT.format(tests=str(ROOT / "tests"), here=str(Path(__file__).parent), port=broker.port)
    with listening(broker, "edgepose/availability") as listener, subprocess.Popen([sys.executable, "-c", code]) as daemon:
        listener.wait_for("edgepose/availability", b"online")
        daemon.send_signal(signal.SIGKILL)
        listener.wait_for("edgepose/availability", b"offline")
    with listening(broker, "edgepose/availability") as later:
        later.wait(lambda heard: heard == [("edgepose/availability", b"offline", True)])


def test_events_of_while_the_broker_is_away_are_delivered_once_and_in_order(broker: Broker) -> None:
    site = BenchSite()
    with listening(broker, "edgepose/events", "edgepose/availability", name="keeps") as listener, connected(site, broker.port) as client:
        for index in range(50):
            site.events.publish(event(index))
        listener.wait(lambda _: len(indices(listener)) == 50)
        wait_until(lambda: client.status()["delivered"] == 50)
        listener.say("edgepose/confirmed", b"the broker has read our confirmations, too")
        broker.stop()
        wait_until(lambda: not client.status()["connected"])
        for index in range(50, 250):
            site.events.publish(event(index))
            site.give(camera_result(index=index))
        wait_until(lambda: client.status()["buffered"] == 200)
        broker.start()
        listener.wait(lambda _: len(indices(listener)) >= 250)
        wait_until(lambda: client.status()["buffered"] == 0)
        assert indices(listener) == list(range(250))
        assert client.status()["dropped"] == 0 and client.status()["connections"] == 2


def test_events_of_while_the_broker_is_away_outlast_a_reload(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    site, services = BenchSite(), Services()
    with listening(broker, "edgepose/events", name="keeps") as listener:
        apply(services, site, broker.port, DOOR)
        client = services._running["mqtt"][1]
        wait_until(lambda: bool(client.status()["connected"]))
        broker.stop()
        wait_until(lambda: not client.status()["connected"])
        for index in range(100):
            site.events.publish(event(index))
        apply(services, site, broker.port, DOOR, YARD)
        apply(services, site, broker.port, DOOR, YARD, buffer=500)
        broker.start()
        listener.wait(lambda _: len(indices(listener)) == 100)
        assert indices(listener) == list(range(100)) and "not delivered" not in caplog.text
    services.stop(5)


def test_stopping_tells_of_every_event_that_was_not_delivered(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.stop()
    site = BenchSite()
    client = MqttClient(MqttSettings(host="127.0.0.1", port=broker.port), site)  # type: ignore[arg-type]
    for index in range(7):
        site.events.publish(event(index))
    client.stop(1)
    assert "7 events were not delivered" in caplog.text


def test_the_buffer_is_bounded_and_the_oldest_are_dropped_and_counted(broker: Broker) -> None:
    site = BenchSite()
    broker.stop()
    with connected(site, broker.port, wait=False, buffer=20) as client:
        wait_until(lambda: "refused" in str(client.status()["last_error"]))
        for index in range(100):
            site.events.publish(event(index))
        wait_until(lambda: client.status()["dropped"] == 80)
        broker.start()
        wait_until(lambda: client.status()["delivered"] == 20)
        assert client.status()["buffered"] == 0 and client.status()["dropped"] == 80


def test_a_wrong_password_is_said_and_tried_again_slowly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(tmp_path, password="right")
    broker.start()
    secret = tmp_path / "secret"
    secret.write_text("wrong-and-secret\n")
    with caplog.at_level(logging.DEBUG), connected(BenchSite(), broker.port, wait=False, username="poses", password_file=secret) as client:
        wait_until(lambda: "refuses us" in str(client.status()["last_error"]))
        assert "look at username and password" in str(client.status()["last_error"])
        looked_until = time.monotonic() + 2  # in which a broker that is away is tried at least twice
        while time.monotonic() < looked_until:
            assert client.status()["attempts"] == 1
            time.sleep(0.05)
        assert "wrong-and-secret" not in caplog.text + json.dumps(client.status())
    broker.stop()


def test_a_password_that_is_put_right_is_taken_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "_REFUSED_S", 0.2)
    broker = Broker(tmp_path, password="right")
    broker.start()
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with connected(BenchSite(), broker.port, wait=False, username="poses", password_file=secret) as client:
        wait_until(lambda: "refuses us" in str(client.status()["last_error"]))
        secret.write_text("right\n")
        wait_until(lambda: bool(client.status()["connected"]))
        assert client.status()["last_error"] == ""
    broker.stop()


def test_the_password_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSES_PASSWORD", "right")
    broker = Broker(tmp_path, password="right")
    broker.start()
    with connected(BenchSite(), broker.port, username="poses", password_env="POSES_PASSWORD") as client:
        assert client.status()["connections"] == 1
    broker.stop()


def test_a_broker_that_takes_the_connection_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_connection, "_ANSWER_S", 0.3)
    site = BenchSite()
    with socket.create_server(("127.0.0.1", 0)) as mute, connected(site, mute.getsockname()[1], wait=False) as client:
        wait_until(lambda: "does not answer" in str(client.status()["last_error"]))
        began = time.monotonic()
        for index in range(2000):
            site.events.publish(event(index))
        assert time.monotonic() - began < 1
        wait_until(lambda: client.status()["attempts"] == 2)


def test_a_broker_that_is_behind_costs_poses_and_no_events(broker: Broker) -> None:
    """It reads nothing for a while: what is under way stays bounded, and all of the buffer arrives in order afterwards."""
    site, proxy = BenchSite(), Proxy(broker.port)
    with listening(broker, "edgepose/events") as listener, connected(site, proxy.port, buffer=100, poses_per_s=100) as client:
        listener.wait(lambda _: True)
        proxy.open.clear()
        for index in range(300):
            site.events.publish(event(index))
            site.give(camera_result(index=index))
        wait_until(lambda: (client.status()["dropped"], client.status()["buffered"]) == (200, 100))
        until = time.monotonic() + PATIENCE_S
        while not client.status()["poses_dropped"]:
            assert time.monotonic() < until
            site.give(camera_result(index=1, people=20))
            time.sleep(0.01)
        proxy.open.set()
        wait_until(lambda: client.status()["buffered"] == 0)
        listener.wait(lambda _: len(indices(listener)) == 100)
        assert indices(listener) == sorted(set(indices(listener))) and indices(listener)[-1] == 299
        assert client.status()["connections"] == 1
    proxy.close()


def test_stopping_is_bounded_where_the_broker_does_not_read(broker: Broker) -> None:
    site, proxy = BenchSite(), Proxy(broker.port)
    with connected(site, proxy.port):
        proxy.open.clear()
        for index in range(300):
            site.events.publish(event(index))
    proxy.close()


def test_a_broker_that_never_confirms_is_given_up() -> None:
    connection = mqtt_connection.MqttConnection(MqttSettings(host="127.0.0.1", keepalive_s=5), "c", mqtt.Message("t", b""))
    connection._unconfirmed[1] = time.monotonic() - 11
    connection.connected = True
    connection._check_answers()
    assert connection.lost == "it does not confirm messages for 10 s"


def test_a_broker_that_stays_away_is_asked_no_oftener_after_a_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a pause nor a try is time of a connection."""
    monkeypatch.setattr(mqtt, "_PAUSES_S", (0.01, 0.1))
    monkeypatch.setattr(mqtt, "_PROVEN_S", 0.05)
    monkeypatch.setattr(mqtt.random, "uniform", lambda *_: 1.0)
    pauses: list[float] = []
    pause = MqttClient._pause
    monkeypatch.setattr(MqttClient, "_pause", lambda client, seconds: (pauses.append(seconds), pause(client, seconds)))
    with connected(BenchSite(), free_port(), wait=False):
        wait_until(lambda: len(pauses) >= 5)
    assert pauses[:5] == [0.0, 0.01, 0.1, 0.1, 0.1]


@pytest.mark.needs("openssl")
def test_tls_verifies_the_brokers_certificate(tmp_path: Path) -> None:
    for name in ("broker", "other"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
            + ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")],
            check=True,
            capture_output=True,
        )
    broker = Broker(tmp_path, certificate=(tmp_path / "broker.pem", tmp_path / "broker.key"))
    broker.start()
    with connected(BenchSite(), broker.port, tls=True, ca_file=tmp_path / "broker.pem") as client:
        assert client.status()["connected"]
    with connected(BenchSite(), broker.port, wait=False, tls=True, ca_file=tmp_path / "other.pem") as client:
        wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in str(client.status()["last_error"]))
    broker.stop()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"password_file": "x"}, "add username"),
        ({"ca_file": "x"}, "set tls = true"),
        ({"username": "u", "password_file": "/nowhere/secret"}, "No such file"),
        ({"username": "u", "password_env": "NOT_THERE_AT_ALL"}, "NOT_THERE_AT_ALL"),
        ({"topic": "a/#"}, "topic"),
        ({"usernme": "u"}, "did you mean 'username'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        MqttClient(MqttSettings.parse({"host": "127.0.0.1", **settings}, "mqtt"), BenchSite())  # type: ignore[arg-type]


def test_a_host_that_cannot_be_one_is_told_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    client = MqttClient(MqttSettings(host="a..b"), BenchSite())  # type: ignore[arg-type]
    client.start()
    wait_until(lambda: "'a..b' is no name or address of a machine" in str(client.status()["last_error"]))
    client.stop(5)
    assert client.status()["errors"] == 0 and "Traceback" not in caplog.text


def test_a_slash_at_the_end_of_the_prefix_is_one_slash(broker: Broker) -> None:
    with connected(BenchSite(), broker.port, discovery_prefix="homeassistant/"), listening(broker, "homeassistant/#") as listener:
        listener.wait(lambda _: listener.of("homeassistant/binary_sensor/edgepose/door_fall/config"))


def test_a_thread_that_fails_is_logged_and_connects_again(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    site = BenchSite()
    site.last["door"] = camera_result()
    with connected(site, broker.port) as client:
        site.configured = [{"name": "door", "events": [{}]}]
        wait_until(lambda: bool(client.status()["errors"]))
        site.configured = [DOOR]
        wait_until(lambda: bool(client.status()["connected"]) and client.status()["connections"] == 2)
    assert "KeyError" in caplog.text


def test_no_thread_is_left(broker: Broker) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with connected(BenchSite(), broker.port):
        assert "edgepose mqtt" in {thread.name for thread in threading.enumerate()}
    assert {thread.name for thread in threading.enumerate()} <= before
