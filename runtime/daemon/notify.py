"""`Notifier`: tells systemd how the daemon is, by sd_notify(3)'s protocol: a datagram of lines to a socket that it names."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Notifier:
    """Where nobody listens (`NOTIFY_SOCKET` is not set) every method does nothing. None raises, none waits. From any thread.

    The unit's Type is notify-reload, or notify, where systemd takes no notice of RELOADING.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environment)
        self._failed = False

    @property
    def is_heard(self) -> bool:
        return self._address is not None

    def ready(self, status: str) -> None:
        """Started, or done with a reload. `status` is what `systemctl status` shows."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        self._send(_status(status))

    def reloading(self, status: str) -> None:
        """To be followed by `ready`, whatever came of it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", _status(status))

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", _status(status))

    def watchdog(self) -> None:
        """All is well. To be called while frames flow, and only then."""
        self._send("WATCHDOG=1")

    def watchdog_interval_s(self) -> float | None:
        """How often `watchdog` is to be called: half of the time after which systemd kills; None where it does not."""
        return None if self._watchdog_s is None else self._watchdog_s / 2

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except OSError as error:
            if not self._failed:
                logger.warning("systemd does not listen: %s", error.strerror or error)
            self._failed = True
        else:
            self._failed = False


def _address(name: str) -> str | None:
    """A path, or with @ in front a name in the abstract namespace, whose first byte is zero."""
    if name.startswith("/"):
        return name
    if name.startswith("@"):
        return "\0" + name[1:]
    if name:
        logger.warning("NOTIFY_SOCKET=%s: wanted a path or @NAME: systemd is not told", name)
    return None


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """None also where the variables are a parent's."""
    microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or (process and process != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
