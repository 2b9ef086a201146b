"""`MqttClient`: tells an MQTT broker what the cameras see, and Home Assistant where to find it. Topics are in docs/daemon-mqtt.md."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event as Flag
from threading import Thread
from typing import Any

import orjson

from edgepose.engines.errors import EdgePoseError
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.mqtt_connection import MqttConnection, password_of
from edgepose.runtime.daemon.mqtt_discovery import SAID_AS, Topics, Watched, discovery_messages, watched_by
from edgepose.runtime.daemon.mqtt_lasting import Lasting
from edgepose.runtime.daemon.mqtt_outbox import Board, Message, Outbox
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.site import Site

logger = logging.getLogger(__name__)
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_REFUSED_S = 30.0
_PROVEN_S = 10.0
"""A connection that lasted less does not shorten the next pause: two clients of one name throw each other out."""
_TURN_S = 0.05
_LOOK_S = 1.0
"""How often cameras' conditions, counts of people and the configuration are looked at."""
_FAREWELL_S = 2.0
_DEPTH, _EVENTS_DEPTH = 256, 10_000
"""Of events more than happen in the seconds that an attempt to connect may take, in which nobody gathers them."""


class MqttClient:
    """A thread of its own between `start` and `stop`; publishing to the hubs never waits for the broker.

    Events wait in a buffer of `settings.buffer`, survive the loss of a connection, and are sent in order until the broker confirms them
    (with `qos` 1, so that one may come twice where a connection breaks between). Of everything else only the newest counts: poses are
    dropped while there is no connection or the broker is behind, states are sent anew with each connection.

    Other cameras are noticed by looking, other settings come by `adjust`: what lasts and what waits stays, under the topics it came with.
    """

    def __init__(self, settings: MqttSettings, site: Site) -> None:
        """Raises ConfigError for a password that cannot be read."""
        password_of(settings)
        self._site, self._outbox, self._lasting = site, Outbox(settings.buffer), Lasting()
        self._wanted = settings
        self._take(settings)
        self._events = site.events.subscribe("mqtt", _EVENTS_DEPTH)
        self._results = site.results.subscribe("mqtt", _DEPTH)
        self._stopping, self._farewell_s = Flag(), _FAREWELL_S
        self._thread = Thread(target=self._run, name="edgepose mqtt", daemon=True)
        self._newest: dict[str, CameraResult] = {}
        self._due_s: dict[str, float] = {}
        self._connected, self._connections, self._attempts, self._greeted_s = False, 0, 0, math.inf
        self._poses_sent, self._poses_dropped, self._errors = 0, 0, 0

    def start(self) -> None:
        self._thread.start()

    def adjust(self, settings: MqttSettings) -> None:
        """Has the thread say goodbye and connect anew with these. Raises ConfigError for a password that cannot be read; nothing changes
        then."""
        password_of(settings)
        self._wanted = settings

    def stop(self, timeout_s: float = 5.0) -> None:
        """Sends what it can of the events within 2 s or half of `timeout_s`, says that we are offline, and returns after `timeout_s` at the
        latest."""
        self._farewell_s = min(_FAREWELL_S, timeout_s / 2)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.error("%s does not stop: it is left behind", self._thread.name)
        self._events.close()
        self._results.close()
        if left := len(self._outbox) + sum(1 for _ in iter(lambda: self._events.get(0), None)):
            logger.warning("MQTT: %d events were not delivered", left)

    def status(self) -> dict[str, object]:
        """Counters; events are `buffered`, `delivered` or `dropped`."""
        return {
            "broker": f"{self._settings.host}:{self._settings.port}",
            "connected": self._connected,
            "connections": self._connections,
            "attempts": self._attempts,
            "buffered": len(self._outbox),
            "delivered": self._outbox.delivered,
            "dropped": self._outbox.dropped + self._events.dropped,
            "poses_sent": self._poses_sent,
            "poses_dropped": self._poses_dropped + self._results.dropped,
            "errors": self._errors,
            "last_error": self._last_error,
        }

    def _run(self) -> None:
        failures, pause = 0, 0.0
        while not self._stopping.is_set():
            refused, self._greeted_s = False, math.inf
            try:
                self._pause(pause * random.uniform(0.75, 1.25))
                if self._wanted is not self._settings:
                    self._take(self._wanted)
                refused = self._one_connection()
            except Exception as error:  # the top of the thread: the connection is given up and made anew
                logger.exception("MQTT failed")
                self._errors, self._last_error = self._errors + 1, f"{type(error).__name__}: {error}"
            self._connected = False
            self._outbox.recall()
            failures = 1 if time.monotonic() - self._greeted_s > _PROVEN_S else failures + 1
            pause = _REFUSED_S if refused else _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]

    def _take(self, settings: MqttSettings) -> None:
        """With a board of its own: another broker or topic has nothing of the one before."""
        self._settings, self._last_error = settings, ""
        self._topics, self._prefix = Topics(settings.topic.rstrip("/")), settings.discovery_prefix.rstrip("/")
        self._outbox.size, self._board = settings.buffer, Board()
        self._shown, self._discovered, self._cameras = set[Watched](), set[str](), set[str]()
        self._looked_s = -1e9

    @property
    def _leaving(self) -> bool:
        """Whether we stop, or other settings are wanted than those that hold."""
        return self._stopping.is_set() or self._wanted is not self._settings

    def _pause(self, seconds: float) -> None:
        """Without losing events meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, 0.2)) and not self._leaving:
            self._gather()

    def _one_connection(self) -> bool:
        """From the attempt to the loss; whether the broker refused us."""
        self._attempts += 1
        try:
            connection = MqttConnection(self._settings, f"edgepose-{self._topics.node}", Message(self._topics.availability, b"offline"))
            connection.open()
        except (OSError, EdgePoseError) as error:
            self._lost(str(error))
            return False
        try:
            self._converse(connection)
        finally:
            connection.abandon()
        if not self._leaving:
            self._lost(connection.lost)
        return connection.refused

    def _converse(self, connection: MqttConnection) -> None:
        while not connection.lost and not self._leaving:
            connection.turn(_TURN_S)
            self._gather()
            if connection.connected and not self._connected:
                self._greet(connection)
            if connection.connected:
                self._hear(connection)
                self._send(connection)
        self._settle(connection)
        if connection.connected and not connection.lost:
            self._say_goodbye(connection)

    def _lost(self, why: str) -> None:
        if why and why != self._last_error:
            logger.warning("MQTT broker %s:%d: %s; trying again", self._settings.host, self._settings.port, why)
        self._last_error = why or self._last_error

    def _greet(self, connection: MqttConnection) -> None:
        self._connected, self._last_error, self._greeted_s = True, "", time.monotonic()
        self._connections += 1
        logger.info("MQTT broker %s:%d: connected", self._settings.host, self._settings.port)
        configs = f"{self._prefix}/+/{self._topics.node}/+/config"  # also where discovery is off: it may have been on before
        connection.subscribe(self._topics.availability, *self._topics.retained, f"{self._prefix}/status", configs)
        self._newest.clear()
        self._board.post(self._topics.availability, b"online")
        self._board.post_all_again()

    def _hear(self, connection: MqttConnection) -> None:
        """The will of an older connection of ours, Home Assistant's birth, and what an earlier run left there that nobody wants any
        more."""
        while connection.received:
            message, retained = connection.received.popleft()
            if message.topic == self._topics.availability:
                if message.payload == b"offline":
                    self._board.post_again(message.topic)
            elif message.topic == f"{self._prefix}/status":
                if message.payload == b"online":
                    self._board.post_all_again()
            elif retained and message.payload and message.topic not in self._board and not self._to_come(message.topic):
                self._board.take_down(message.topic)

    def _to_come(self, topic: str) -> bool:
        """Whether it is the count of people of a camera that has none to tell yet."""
        return any(topic == self._topics.of_camera(camera, "count") for camera in self._cameras)

    def _gather(self) -> None:
        """Takes what was published, so that it does not pile up there."""
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._look()
        while (event := self._events.get(0)) is not None:
            value = orjson.loads(event.as_json())
            also = Message(self._topics.event(event.camera, event.kind), orjson.dumps({"event_type": event.state, **value}))
            self._outbox.add(Message(self._topics.events, event.as_json()), also)
            self._note(event)
        while (result := self._results.get(0)) is not None:
            self._newest[result.camera] = result

    def _note(self, event: Event) -> None:
        """Keeps the states that last."""
        if event.kind not in SAID_AS:
            return
        watched = Watched(event.camera, event.kind, event.zone)
        self._lasting.note(watched, event)  # also where it is not shown: a new configuration is tried before it holds
        if watched in self._shown:
            self._show(watched)
        else:
            self._look()  # the configuration may be newer than we know

    def _show(self, watched: Watched) -> None:
        """Whether it lasts, and how many there are."""
        self._board.post(self._topics.state(watched), b"ON" if watched in self._lasting else b"OFF")
        if watched.kind == "presence" and watched.zone:
            self._board.post(self._topics.count(watched.camera, watched.zone), str(self._lasting.count(watched)).encode())

    def _send(self, connection: MqttConnection) -> None:
        while not connection.busy and (message := self._board.next()) is not None:
            connection.publish(message, self._settings.qos, retain=True)
        while not connection.busy and (parcel := self._outbox.next()) is not None:
            for message in parcel.messages:
                parcel.unconfirmed.add(connection.publish(message, self._settings.qos, retain=False))
        self._send_poses(connection)
        self._settle(connection)

    def _settle(self, connection: MqttConnection) -> None:
        while connection.confirmed:
            self._outbox.confirm(connection.confirmed.popleft())

    def _send_poses(self, connection: MqttConnection) -> None:
        """The newest, at most so many a second; those between are missed by nobody, those for which the broker is too slow are counted."""
        now = time.monotonic()
        for camera in [camera for camera in self._newest if now >= self._due_s.get(camera, 0.0)]:
            result = self._newest.pop(camera)
            if not self._settings.poses_per_s:
                continue
            self._due_s[camera] = max(self._due_s.get(camera, 0.0), now - _TURN_S) + 1 / self._settings.poses_per_s
            if connection.busy:
                self._poses_dropped += 1
            else:
                connection.publish(Message(self._topics.of_camera(camera, "poses"), result.as_json()), 0, retain=False)
                self._poses_sent += 1

    def _look(self) -> None:
        """What is known by asking."""
        self._looked_s = time.monotonic()
        cameras = self._site.cameras()
        names = {camera.name for camera in cameras}
        for gone in self._cameras - names:
            for what in ("condition", "count"):
                self._board.take_down(self._topics.of_camera(gone, what))
        self._cameras = names
        for camera in cameras:
            self._board.post(self._topics.of_camera(camera.name, "condition"), camera.condition.encode())
            with suppress(KeyError):  # it was removed between the two questions
                if (latest := self._site.latest(camera.name)) is not None and camera.condition == "live":
                    self._board.post(self._topics.of_camera(camera.name, "count"), str(len(latest.result.poses)).encode())
        configured = self._site.configuration().get("cameras")
        self._follow(configured if isinstance(configured, Sequence) else ())

    def _follow(self, cameras: Sequence[Mapping[str, Any]]) -> None:
        """Posts what belongs to the configuration, and takes down what no longer does."""
        watched = set(watched_by(cameras))
        for gone in self._shown - watched:
            self._board.take_down(self._topics.state(gone))
            if gone.kind == "presence" and gone.zone:
                self._board.take_down(self._topics.count(gone.camera, gone.zone))
        self._shown = watched
        for each in watched:
            self._show(each)
        if self._settings.discovery:
            messages = discovery_messages(self._prefix, self._topics, cameras)
            for topic in self._discovered - set(messages):
                self._board.take_down(topic)
            for topic, payload in messages.items():
                self._board.post(topic, payload)
            self._discovered = set(messages)

    def _say_goodbye(self, connection: MqttConnection) -> None:
        until = time.monotonic() + self._farewell_s
        self._gather()
        while not connection.lost and time.monotonic() < until and (len(self._outbox) or not connection.idle):
            self._send(connection)
            connection.turn(_TURN_S)
            self._settle(connection)
        connection.publish(Message(self._topics.availability, b"offline"), 1, retain=True)
        while not connection.lost and time.monotonic() < until + self._farewell_s / 4 and not connection.idle:
            connection.turn(_TURN_S)
        connection.close()
