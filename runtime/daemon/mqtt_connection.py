"""`MqttConnection`: one connection to a broker, from the first attempt to its loss; another one is another object, without a past.

paho-mqtt's own queues are kept short by whoever sends (`busy`), because they know no bound for what cannot be written, and drop the newest.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from edgepose.engines.errors import BackendUnavailable, ConfigError
from edgepose.runtime.daemon.mqtt_outbox import Message
from edgepose.runtime.daemon.mqtt_settings import MqttSettings
from edgepose.runtime.daemon.secret import secret_from

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

_CONNECT_S = 5.0
_ANSWER_S = 10.0
_UNCONFIRMED = 64
_SEND_BUFFER = 65536
"""Bytes in the system's hands: with its own idea of that, poses would be seconds old before a slow broker were noticed."""


class MqttConnection:
    """`connected` once the broker has said so; `lost` is why it is over, `refused` where the broker does not want us. `confirmed` are the
    numbers of messages that the broker has, `received` what came, as (message, retained): both for whoever empties them. For one thread."""

    def __init__(self, settings: MqttSettings, client_id: str, will: Message) -> None:
        """Raises BackendUnavailable, ConfigError for a password that cannot be read."""
        self.connected, self.refused, self.lost = False, False, ""
        self.confirmed: deque[int] = deque()
        self.received: deque[tuple[Message, bool]] = deque(maxlen=10_000)
        self._settings, self._opened_s, self._unconfirmed = settings, 0.0, dict[int, float]()
        self._tls = _tls(settings) if settings.tls else None
        self._client = _client(settings, client_id)
        if self._tls is not None:
            self._client.tls_set_context(self._tls)
        self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = lambda *arguments: self._on_publish(arguments[2])
        self._client.on_message = self._on_message

    def open(self) -> None:
        """Takes up to 5 s for the connection, and as much for TLS. Raises OSError, ConfigError for a host that cannot be one."""
        self._opened_s = time.monotonic()
        try:
            self._client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
        except UnicodeError as error:
            raise ConfigError(f"mqtt.host: {self._settings.host!r} is no name or address of a machine ({error}): correct it") from error
        except OSError:
            if self._tls is not None and self._tls.socket is not None:
                self._tls.socket.close()
            raise
        opened: Any = self._client.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def turn(self, timeout_s: float) -> None:
        """Reads and writes what can be; waits for something to read for at most so long."""
        opened: Any = self._client.socket()
        if opened is None:
            self.lost = self.lost or "the connection was closed"
            return
        if not (hasattr(opened, "pending") and opened.pending()):
            poll = select.poll()  # not select: a daemon with many clients has high descriptors
            poll.register(opened, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
            ready = poll.poll(timeout_s * 1000)
        else:
            ready = [(0, select.POLLIN)]
        if any(what & ~select.POLLOUT for _, what in ready):
            self._client.loop_read()
        if self._client.want_write() and self._client.socket() is not None:
            self._client.loop_write()
        self._client.loop_misc()
        self._check_answers()

    @property
    def busy(self) -> bool:
        """Whether the broker is behind: nothing but confirmations is waited for."""
        return self._client.want_write() or len(self._unconfirmed) >= _UNCONFIRMED

    @property
    def idle(self) -> bool:
        """Whether the broker has everything."""
        return not self._client.want_write() and not self._unconfirmed

    def publish(self, message: Message, qos: int, retain: bool) -> int:
        """The message's number."""
        number = self._client.publish(message.topic, message.payload, qos, retain).mid
        if qos:
            self._unconfirmed.setdefault(number, time.monotonic())
        return number

    def subscribe(self, *topics: str) -> None:
        self._client.subscribe([(topic, 0) for topic in topics])

    def close(self) -> None:
        """Says goodbye, so that the broker does not publish the will."""
        self._client.disconnect()
        if self._client.socket() is not None:
            self._client.loop_write()

    def abandon(self) -> None:
        """Closes what is still open without a word: the broker publishes the will."""
        if (opened := self._client.socket()) is not None:
            opened.close()

    def _check_answers(self) -> None:
        """A broker that takes everything and answers nothing."""
        now = time.monotonic()
        if not self.connected and not self.lost and now - self._opened_s > _ANSWER_S:
            self.lost = f"it takes the connection and does not answer for {_ANSWER_S:g} s: is there an MQTT broker on this port?"
        oldest = next(iter(self._unconfirmed.values()), now)
        if now - oldest > 2 * self._settings.keepalive_s:
            self.lost = self.lost or f"it does not confirm messages for {2 * self._settings.keepalive_s} s"

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused, self.lost = True, f"it refuses us: {reason}; look at username and password"
        else:
            self.connected = True

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.lost = self.lost or f"the connection is gone ({reason})"

    def _on_publish(self, number: int) -> None:
        self._unconfirmed.pop(number, None)
        self.confirmed.append(number)

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        self.received.append((Message(message.topic, bytes(message.payload)), message.retain))


def password_of(settings: MqttSettings) -> str | None:
    """Read anew for each connection, so that it can be changed. Raises ConfigError."""
    return secret_from(settings.password_file, settings.password_env, "mqtt")


def _client(settings: MqttSettings, client_id: str) -> Client:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise BackendUnavailable("paho-mqtt is not installed: pip install 'edgepose[daemon]'") from error
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True, reconnect_on_failure=False)
    client.connect_timeout = _CONNECT_S
    client.max_inflight_messages_set(1000)  # `busy` is the bound
    if settings.username is not None:
        client.username_pw_set(settings.username, password_of(settings))
    return client


class _Tls(ssl.SSLContext):
    """Closes what paho leaves open where a certificate is refused."""

    def __init__(self, _protocol: int) -> None:
        self.socket: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **settings: Any) -> ssl.SSLSocket:
        self.socket = super().wrap_socket(*arguments, **settings)
        return self.socket


def _tls(settings: MqttSettings) -> _Tls:
    context = _Tls(ssl.PROTOCOL_TLS_CLIENT)  # which verifies certificate and name
    try:
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
    except OSError as error:
        raise ConfigError(f"mqtt.ca_file: {settings.ca_file}: cannot be read as PEM certificates ({error.strerror or error})") from error
    return context
