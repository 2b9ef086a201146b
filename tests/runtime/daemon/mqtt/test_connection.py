"""Brokers that are killed, refuse, keep silent and are slow: real mosquittos."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from camera_results import camera_result
from mqtt_broker import PATIENCE_S, Broker, Proxy, wait_until
from mqtt_site import DOOR, YARD, BenchSite, apply, connected, event, indices, listening
from ports import free_port

from edgepose.engines.errors import ConfigError, EdgePoseError
from edgepose.runtime.daemon import mqtt, mqtt_connection
from edgepose.runtime.daemon.config import DaemonSettings
from edgepose.runtime.daemon.mqtt import MqttClient
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.services import Services, service_plans

TESTS = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.needs("mosquitto")


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
sys.path.insert(0, {tests!r})
from mqtt_site import BenchSite
from edgepose.runtime.daemon.config import DaemonSettings
from edgepose.runtime.daemon.mqtt import MqttClient
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
MqttClient(MqttSettings(host="127.0.0.1", port={port}), BenchSite()).start()
threading.Event().wait()
"""


def test_the_broker_says_offline_for_a_daemon_that_is_killed(broker: Broker) -> None:
    code = CLIENT.format(tests=str(TESTS), port=broker.port)
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


def test_events_that_wait_outlast_a_reload_that_cannot_hold(broker: Broker, tmp_path: Path) -> None:
    services = Services()
    site: Any = BenchSite()
    broker.stop()
    apply(services, site, broker.port, DOOR)
    site.events.publish(event(0))
    wait_until(lambda: services.status()["mqtt"]["buffered"] == 1)
    without = DaemonSettings.parse({"bundle": "x", "hook": {"file": str(tmp_path / "none.py")}}, "test")
    with pytest.raises(EdgePoseError, match=r"none\.py"):
        services.apply(service_plans(without, site))
    apply(services, site, broker.port, DOOR)
    broker.start()
    wait_until(lambda: services.status()["mqtt"]["delivered"] == 1)
    services.stop(5)


def test_stopping_tells_of_every_event_that_was_not_delivered(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.stop()
    site: Any = BenchSite()
    client = MqttClient(MqttSettings(host="127.0.0.1", port=broker.port), site)
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
    site: Any = BenchSite()
    with pytest.raises(ConfigError, match=told):
        MqttClient(MqttSettings.parse({"host": "127.0.0.1", **settings}, "mqtt"), site)


def test_a_host_that_cannot_be_one_is_told_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    site: Any = BenchSite()
    client = MqttClient(MqttSettings(host="a..b"), site)
    client.start()
    wait_until(lambda: "'a..b' is no name or address of a machine" in str(client.status()["last_error"]))
    client.stop(5)
    assert client.status()["errors"] == 0 and "Traceback" not in caplog.text


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
