"""What systemd hears, on a real socket of its kind."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.runtime.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@edgepose-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(5)
        yield name, listener


def test_each_state_is_one_datagram(systemd: tuple[str, socket.socket]) -> None:
    name, listener = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.is_heard
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.ready("4 cameras")
    notifier.reloading("reading\npose.toml")
    notifier.status("3 of 4 cameras")
    notifier.watchdog()
    notifier.stopping("completing files")
    told = [listener.recv(4096).decode().split("\n") for _ in range(5)]
    assert told[0] == ["READY=1", "STATUS=4 cameras"]
    assert told[1][0] == "RELOADING=1" and told[1][2] == "STATUS=reading pose.toml", "a line break would be another variable"
    assert before <= int(told[1][1].removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert told[2:] == [
        ["STATUS=3 of 4 cameras"],
        ["WATCHDOG=1"],
        ["STOPPING=1", "STATUS=completing files"],
    ]


def test_where_nobody_listens_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({})
    notifier.ready("")
    assert not notifier.is_heard and notifier.watchdog_interval_s() is None and not caplog.records


def test_a_socket_that_is_gone_is_said_once_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")})
    for _ in range(3):
        notifier.watchdog()
    assert [record.getMessage() for record in caplog.records] == ["systemd does not listen: No such file or directory"]


def test_a_socket_that_is_full_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        began = time.monotonic()
        for _ in range(5000):
            notifier.watchdog()
        assert time.monotonic() - began < 5
    assert [record.getMessage() for record in caplog.records] == ["systemd does not listen: Resource temporarily unavailable"]


def test_a_socket_of_another_kind_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).is_heard
    assert "wanted a path or @NAME" in caplog.text


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(environment: dict[str, str], interval_s: float | None) -> None:
    assert Notifier(environment).watchdog_interval_s() == interval_s
