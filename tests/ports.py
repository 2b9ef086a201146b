"""Ports for servers of tests."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom


def free_port() -> int:
    """Of 127.0.0.1. It lies below the ports that systems give to connections, so that no connection of another test takes it before
    the server that it is for does, or while that server is away."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = SystemRandom().randrange(10_000, 32_768)
            probe.bind(("127.0.0.1", port))
            return port
