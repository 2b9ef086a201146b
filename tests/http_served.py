"""What tests use to talk to a server: a server, tokens, raw sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from small_site import MemoryLog, SmallSite

from edgepose.runtime.daemon.auth import AuthSettings, TokenSettings, hash_of_token
from edgepose.runtime.daemon.http.server import HttpServer
from edgepose.runtime.daemon.http.settings import ServerSettings

READ, ADMIN = "epd_reader-of-the-tests", "epd_admin-of-the-tests"
PATIENCE_S = 15.0


def tokens() -> AuthSettings:
    held = {"reader": ("read", READ), "boss": ("admin", ADMIN)}
    return AuthSettings(tokens=tuple(TokenSettings(name=name, role=role, hash=hash_of_token(t)) for name, (role, t) in held.items()))


@dataclass(frozen=True)
class Served:
    """A server and a client that speaks to it."""

    server: HttpServer
    client: httpx.Client

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.port

    def websocket(self, path: str) -> str:
        return self.server.url.replace("http", "ws", 1) + path

    def connected(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE_S)

    def number(self, name: str) -> int:
        value = self.server.status()[name]
        assert isinstance(value, int)
        return value


@contextmanager
def served(site: SmallSite, auth: AuthSettings | None = None, token: str = "", **settings: Any) -> Iterator[Served]:
    server = HttpServer(
        ServerSettings(**{"port": 0, "requests_per_minute": 1_000_000, **settings}), auth or AuthSettings(), site, MemoryLog()
    )
    server.start()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as client:
            yield Served(server, client)
    finally:
        server.stop()


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Asks again and again, at most for `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
