"""A real mosquitto on a free port of 127.0.0.1, and who listens there."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from ports import free_port

PATIENCE_S = 20.0
_MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin") or "mosquitto"


@dataclass
class Broker:
    """Keeps sessions and retained messages over a restart, in `folder`. With `password` for the user "poses", else open to all."""

    folder: Path
    password: str | None = None
    certificate: tuple[Path, Path] | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.folder}/",
            "log_dest stderr",
            f"user {getpass.getuser()}",
        ]
        if self.password is None:
            lines.append("allow_anonymous true")
        else:
            lines += ["allow_anonymous false", f"password_file {self.folder / 'users'}"]
            users = self.folder / "users"
            users.touch(mode=0o600)
            subprocess.run(["mosquitto_passwd", "-b", users, "poses", self.password], check=True, capture_output=True)
        if self.certificate is not None:
            lines += [f"certfile {self.certificate[0]}", f"keyfile {self.certificate[1]}"]
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([_MOSQUITTO, "-c", config], stdout=log, stderr=log)
        wait_until(self._answers)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """As a restart of its machine does; what it has is kept, unless it is killed."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE_S)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as one:
                one.sendall(bytes(8))
                one.recv(1)  # rubbish is hung up on, and only by its loop: a SIGTERM that comes before that one is forgotten
        except ConnectionRefusedError:
            return False
        except ConnectionResetError:
            pass
        return True


class Listener:
    """Everything that comes, in order: (topic, payload, retained). With `name` the broker keeps what comes while nobody listens."""

    def __init__(self, broker: Broker, *topics: str, name: str = "", port: int | None = None) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._changed, self._subscribed, self._topics = threading.Condition(), threading.Event(), topics or ("#",)
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=not name)
        if broker.password is not None:
            self.client.username_pw_set("poses", broker.password)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port or broker.port)
        self.client.loop_start()
        assert self._subscribed.wait(PATIENCE_S)

    def wait(self, holds: Callable[[list[tuple[str, bytes, bool]]], Any]) -> list[tuple[str, bytes, bool]]:
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.heard), PATIENCE_S), self.heard[-20:]
            return list(self.heard)

    def wait_for(self, topic: str, payload: bytes) -> None:
        self.wait(lambda heard: any((t, p) == (topic, payload) for t, p, _ in heard))

    def of(self, topic: str) -> list[bytes]:
        with self._changed:
            return [payload for heard, payload, _ in self.heard if heard == topic]

    def forget(self) -> None:
        with self._changed:
            self.heard.clear()

    def say(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self.client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, *_: object) -> None:
        self.client.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, bytes(message.payload), message.retain))
            self._changed.notify_all()


class Proxy:
    """Between a client and a broker; passes nothing on while `open` is not set."""

    def __init__(self, port: int) -> None:
        self.open = threading.Event()
        self.open.set()
        self._target, self._server, self._ended = port, socket.socket(), False
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def close(self) -> None:
        self._ended = True
        self.open.set()
        for one in (self._server, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while not self._ended:
            with suppress(OSError):
                client, _ = self._server.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, broker]
                for a, b in ((client, broker), (broker, client)):
                    self._threads.append(threading.Thread(target=self._pump, args=(a, b), daemon=True))
                    self._threads[-1].start()

    def _pump(self, a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):
            while data := a.recv(4096):
                self.open.wait()
                b.sendall(data)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)
