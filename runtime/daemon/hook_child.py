"""`HookChild`: one run of the process that a user's hook lives in."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader, FileIO
from pathlib import Path
from threading import Thread
from typing import IO, Any

import orjson

from edgepose.runtime.daemon.hook_settings import HookSettings

logger = logging.getLogger(__name__)
_HOST = Path(__file__).with_name("hook_host.py")
_SLICE_S = 0.1
_LONGEST_ANSWER = 2**20
_LOGGED_A_SECOND = 50
_LONGEST_LINE = 2000
_GOODBYE_S = 0.5


class HookFailed(Exception):
    """The process is of no more use; says why. `late` where it did not answer in time."""

    def __init__(self, reason: str, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


class HookChild:
    """In a session of its own, so that it and its children are ended together; it dies with the thread that made it (PR_SET_PDEATHSIG).
    What it prints is logged, at most 50 lines a second."""

    def __init__(self, settings: HookSettings) -> None:
        command = [sys.executable, "-u", str(_HOST), str(settings.file), str(os.getpid())]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._heard = self._process.stdin, self._process.stdout, b""
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._log = Thread(target=_log_lines, args=(self._process.stderr,), name="edgepose hook log", daemon=True)
        self._log.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: bytes, timeout_s: float, given_up: Callable[[], bool]) -> dict[str, Any]:
        """One line there and one back; an answer that is no JSON comes as {"error": ...}. Raises HookFailed where the process ends, says
        too much or does not answer in time; InterruptedError soon after `given_up` says so."""
        until = time.monotonic() + timeout_s
        left = memoryview(question + b"\n")
        while left:
            self._wait(self._in, select.POLLOUT, until, given_up)
            with suppress(BlockingIOError):
                left = left[self._written(left) :]
        while b"\n" not in self._heard:
            self._wait(self._out, select.POLLIN, until, given_up)
            part = self._out.read(65536)
            if part == b"":
                raise HookFailed(self._how_it_ended())
            self._heard += part or b""
            if len(self._heard) > _LONGEST_ANSWER:
                raise HookFailed("one call gave more than 1 MiB of events")
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            answer = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return {"error": f"its answer is no JSON: {error}"}
        return answer if isinstance(answer, dict) else {"error": "its answer is no JSON object"}

    def end(self) -> None:
        """Half a second to finish by itself, then SIGKILL for it and its children."""
        with suppress(OSError):
            self._in.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_S)
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(OSError):
            self._in.close()
        self._out.close()
        self._log.join(1.0)

    def _written(self, left: memoryview) -> int:
        try:
            return self._in.write(left) or 0
        except BrokenPipeError as error:
            raise HookFailed(self._how_it_ended()) from error

    def _wait(self, pipe: IO[bytes], what: int, until: float, given_up: Callable[[], bool]) -> None:
        poll = select.poll()
        poll.register(pipe, what)
        while not poll.poll(1000 * min(_SLICE_S, max(until - time.monotonic(), 0.001))):
            if given_up():
                raise InterruptedError
            if time.monotonic() > until:
                raise HookFailed("no answer in time", late=True)

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended itself with status {status}"


def _log_lines(stderr: FileIO) -> None:
    """Until the process ends; lines over the rate are counted instead."""
    second, logged, left_out = 0, 0, 0
    with BufferedReader(stderr) as lines:  # without a buffer each byte is a call of the system
        while line := lines.readline(_LONGEST_LINE):
            if int(time.monotonic()) != second:
                if left_out:
                    logger.warning("hook: %d lines left out, because it prints more than %d a second", left_out, _LOGGED_A_SECOND)
                second, logged, left_out = int(time.monotonic()), 0, 0
            if logged < _LOGGED_A_SECOND:
                logger.info("hook: %s", line.decode(errors="replace").rstrip())
            logged, left_out = logged + 1, left_out + (logged >= _LOGGED_A_SECOND)
