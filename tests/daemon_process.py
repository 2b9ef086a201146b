"""A real `pose-daemon` in a process of its own, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ports import free_port

PATIENCE_S = 60.0
_LOOK_S = 0.05


def until(holds: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < patience_s, f"{what}: not within {patience_s:g} s"
        time.sleep(_LOOK_S)
    return time.monotonic() - began


class DaemonProcess:
    """`body` is its configuration, without bundle and server; `program` what Python runs instead of the command."""

    def __init__(
        self, folder: Path, bundle: Path, body: str, environment: Mapping[str, str] | None = None, program: str | None = None
    ) -> None:
        self.port, self.config, self.log = free_port(), folder / "pose.toml", folder / "daemon.log"
        self._bundle, self._environment, self._program = bundle, dict(environment or {}), program
        self.configure(body)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, body: str, bundle: Path | None = None) -> str:
        """Writes the configuration file, and gives its text."""
        head = f'bundle = "{bundle or self._bundle}"\n'
        text = f"{head}{body}\n[server]\nport = {self.port}\nrequests_per_minute = 1000000\n"
        self.config.write_text(text)
        return text

    def start(self) -> float:
        """Seconds until it is ready: every camera gives results."""
        command = [sys.executable, "-c", self._program] if self._program else [sys.executable, "-m", "edgepose.runtime.daemon"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.config)], stdout=log, stderr=log, env={**os.environ, **self._environment}
            )
        return until(self.is_ready, "ready")

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended:\n{self.log.read_text()}"
        try:
            return bool(self.ask("/readyz")["status"] == "ready")
        except OSError:
            return False

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, kind: str = "application/toml") -> Any:
        """JSON that it answers with; urllib's HTTPError for an error."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, method=method, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def refused(self, path: str, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            self.ask(path, method, body)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        raise AssertionError(f"{path} was not refused")

    def camera(self, name: str) -> dict[str, Any]:
        return next(camera for camera in self.ask("/api/cameras") if camera["name"] == name)

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/api/status")["services"][name]
        return found

    def results(self, name: str) -> int:
        return int(self.camera(name)["results"])

    def moves(self, name: str, patience_s: float = PATIENCE_S) -> float:
        """Seconds until the camera gives another result."""
        before = self.results(name)
        return until(lambda: self.results(name) > before, f"{name} gives results", patience_s)

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def terminate(self) -> float:
        """Seconds from SIGTERM to its end, which is with status 0."""
        assert self.process is not None
        began = time.monotonic()
        self.send(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()
        return time.monotonic() - began

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> DaemonProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def usage(self) -> tuple[float, int, int]:
        """(resident MiB, descriptors, threads)."""
        assert self.process is not None
        proc = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) / 1024, len(list((proc / "fd").iterdir())), int(status["Threads"])
