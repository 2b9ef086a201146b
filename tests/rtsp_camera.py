"""An RTSP camera in a process of its own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from ports import free_port

SERVER = Path(__file__).resolve().parent / "rtsp_server.py"


class RtspCamera:
    """A server process; `port` stays the same over restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def start(self, size: str = "160x96", breaking: float = 0) -> None:
        arguments = [str(self.port), size, *([str(breaking)] if breaking else [])]
        self._process = subprocess.Popen(["/usr/bin/python3", str(SERVER), *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def send(self, what: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(what)

    def kill(self) -> None:
        if self._process:
            self.send(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout
            self._process.stdout.close()
