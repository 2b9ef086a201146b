"""Another address or certificate for the HTTP server of a daemon that runs: tried before it holds, and never the daemon's end."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from ports import free_port

from edgepose.runtime.daemon.auth import new_token
from edgepose.runtime.daemon.config import settings_from_file
from edgepose.runtime.daemon.daemon import Daemon
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.logs import LogTail, TextLines


class Running:
    """A daemon without cameras, and its configuration file, to which `path` may be a link."""

    def __init__(self, path: Path, bundle: Path, server: str) -> None:
        self.path, self._head = path, f'bundle = "{bundle}"\n'
        path.write_text(self.text(server))
        self.daemon = Daemon(settings_from_file(path, {}), path, {}, LogTail(100, TextLines()))

    def text(self, server: str) -> str:
        return f"{self._head}[server]\n{server}"

    def answers(self, port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running(path: Path, bundle: Path, server: str) -> Iterator[Running]:
    made = Running(path, bundle, server)
    made.daemon.start()
    try:
        yield made
    finally:
        made.daemon.stop()


@contextmanager
def held(port: int) -> Iterator[None]:
    """Somebody else listens there."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_an_address_that_cannot_be_had_is_refused_and_nothing_is_written(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    port, taken = free_port(), free_port()
    _, token = new_token("boss", "admin")
    with running(tmp_path / "pose.toml", tiny_bundles["ov-fp32"], f"port = {port}\n") as ours, held(taken):
        before = ours.path.read_text()
        (tmp_path / "key.pem").write_text("no key")
        for server, reason in (
            (f"port = {taken}\n", "Address already in use"),
            (f'port = {port}\nhost = "a..b"\n{token}', "server.host: a..b"),
            (f'port = {port}\nhost = "192.0.2.1"\n{token}', "Cannot assign requested address"),
            (f'port = {port}\ntls_certificate = "key.pem"\ntls_key = "key.pem"\n', "server.tls_certificate"),
        ):
            report = ours.daemon.reload(ours.text(server))
            assert not report.applied and reason in report.reason
            ours.daemon.refresh()
            assert ours.path.read_text() == before and ours.answers(port)


def test_an_address_that_is_free_is_taken_and_a_link_stays_one(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    real, link = tmp_path / "etc" / "real.toml", tmp_path / "pose.toml"
    real.parent.mkdir()
    real.touch()
    link.symlink_to("etc/real.toml")
    port, other = free_port(), free_port()
    with running(link, tiny_bundles["ov-fp32"], f"port = {port}\n") as ours:
        new = ours.text(f"port = {other}\n")
        assert ours.daemon.reload(new).changes == ("server: started anew in a moment",)
        ours.daemon.refresh()
        assert ours.answers(other) and not ours.answers(port)
        assert ours.daemon.reload(ours.text(f'port = {other}\nhost = "0.0.0.0"\n{new_token("boss", "admin")[1]}')).applied
        ours.daemon.refresh()
        assert ours.answers(other), "the own port is not taken by somebody else"
    assert link.is_symlink() and str(other) in real.read_text()


def test_a_server_that_is_started_anew_knows_what_happened_before(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path / "pose.toml", tiny_bundles["ov-fp32"], f"port = {port}\n") as ours:
        ours.daemon.events.publish(Event("hall", "fall", "started", 5.0))
        uptime_s = httpx.get(f"{ours.daemon.url}/api/status", trust_env=False).json()["uptime_s"]
        assert ours.daemon.reload(ours.text(f"port = {port}\nstream_depth = 8\n")).changes == ("server: started anew in a moment",)
        ours.daemon.refresh()
        assert [event["kind"] for event in httpx.get(f"{ours.daemon.url}/api/events", trust_env=False).json()] == ["fall"]
        assert httpx.get(f"{ours.daemon.url}/api/status", trust_env=False).json()["uptime_s"] >= uptime_s


def test_a_server_that_found_neither_address_takes_the_old_one_when_it_is_free(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    old, new = free_port(), free_port()
    with running(tmp_path / "pose.toml", tiny_bundles["ov-fp32"], f"port = {old}\n") as ours:
        server = ours.daemon._server._running
        assert server is not None and server._parts.broadcast._loop is not None and server._thread is not None
        server._parts.broadcast._loop.call_soon_threadsafe(server._parts.broadcast._loop.stop)  # which leaves the old address
        server._thread.join(10)
        assert ours.daemon.reload(ours.text(f"port = {new}\n")).applied
        with held(new):
            with held(old):
                ours.daemon.refresh()
                assert ours.daemon.url == ""
            ours.daemon.refresh()
            assert ours.answers(old)
        assert ours.daemon.reload().applied, "who asks again is tried again"
        ours.daemon.refresh()
        assert ours.answers(new)


def make_certificate(key: Path, certificate: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *names], check=True, capture_output=True)


@pytest.mark.needs("openssl")
def test_a_certificate_that_was_renewed_is_taken_and_one_that_is_torn_is_not(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    make_certificate(key, certificate)
    server = f'port = {port}\ntls_certificate = "certificate.pem"\ntls_key = "key.pem"\n'
    with running(tmp_path / "pose.toml", tiny_bundles["ov-fp32"], server) as ours:
        first = certificate.read_text()
        assert not ours.daemon.reload().changes
        make_certificate(key, certificate)
        assert ours.daemon.reload().changes == ("server: started anew in a moment",)
        ours.daemon.refresh()
        second = certificate.read_text()
        assert first != second == ssl.get_server_certificate(("127.0.0.1", port))
        key.write_text("half a k")
        assert not ours.daemon.reload().applied
        ours.daemon.refresh()
        assert ssl.get_server_certificate(("127.0.0.1", port)) == second
