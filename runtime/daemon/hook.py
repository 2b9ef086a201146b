"""`HookProcess`: calls a user's `on_poses` for each result, in another process, so that nothing it does can hurt the pipeline.

docs/daemon-events.md says what the file may hold; `hook_host` runs it.
"""

from __future__ import annotations

import logging
import random
import time
from threading import Event as Flag
from threading import Thread
from typing import Any, Literal

import orjson
from pydantic import Field

from edgepose.engines.errors import ConfigError
from edgepose.engines.record import Record
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.hook_child import HookChild, HookFailed
from edgepose.runtime.daemon.hook_settings import HookSettings
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.logs import redacted

logger = logging.getLogger(__name__)
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_PROVEN_S = 60.0
"""Who ran so long without fault starts with the shortest pause again."""
_START_S = 30.0
_AGAIN_S = 30.0
"""The same error is logged once in so long."""
_EVENTS_A_CALL = 100


class HookEvent(Record):
    """What `on_poses` may return any number of."""

    kind: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    state: Literal["started", "ended", "changed", "happened"] = "happened"
    zone: str | None = Field(default=None, max_length=64)
    person: int | None = None
    count: int | None = None
    detail: dict[str, Any] = Field(default_factory=dict)


class HookProcess:
    """A thread of its own between `start` and `stop`. Results wait in a queue of `settings.depth`; the oldest give way, counted. Whoever
    does not answer within `settings.timeout_s`, ends itself or crashes is started anew, after pauses that grow to a minute."""

    def __init__(self, settings: HookSettings, skeleton: Skeleton, results: Hub[CameraResult], events: Hub[Event]) -> None:
        """Raises ConfigError for a file that is not there or not Python; it is not run before `start`."""
        check_hook(settings)
        self._settings, self._skeleton, self._events = settings, skeleton, events
        self._subscription = results.subscribe("hook", settings.depth)
        self._stopping, self._reloading = Flag(), Flag()
        self._thread = Thread(target=self._run, name="edgepose hook", daemon=True)
        self._pid: int | None = None
        self._calls, self._published, self._exceptions, self._timeouts, self._restarts, self._skipped = 0, 0, 0, 0, 0, 0
        self._left_out = 0
        self._last_error, self._last_ms, self._logged_s = "", 0.0, -1e9

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """The call that runs is not waited for."""
        self._stopping.set()
        self._reloading.set()
        self._subscription.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.error("%s does not stop: it is left behind", self._thread.name)

    def reload(self) -> None:
        """Reads the file anew, in a new process. Raises ConfigError where it is gone or no longer Python; the old one goes on then."""
        check_hook(self._settings)
        self._reloading.set()

    def status(self) -> dict[str, object]:
        """`exceptions` of the user's function, after which it goes on; `timeouts` and other faults are among `restarts`; `left_out` are
        events beyond the first hundred of a call. `last_error` without secrets, as logs are."""
        return {
            "file": str(self._settings.file),
            "pid": self._pid,
            "calls": self._calls,
            "published": self._published,
            "exceptions": self._exceptions,
            "timeouts": self._timeouts,
            "restarts": self._restarts,
            "dropped": self._subscription.dropped + self._skipped,
            "left_out": self._left_out,
            "last_ms": round(self._last_ms, 2),
            "last_error": redacted(self._last_error),
        }

    def _run(self) -> None:
        faults = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._reloading.clear()
            try:
                self._one_life()
                continue
            except InterruptedError:
                continue
            except HookFailed as error:
                self._timeouts += error.late
                reason = f"no answer within {self._settings.timeout_s:g} s" if error.late else str(error)
                self._complain(f"{reason}; started anew")
            except Exception as error:  # the top of the thread
                logger.exception("the hook's process cannot be run")
                self._last_error = f"{type(error).__name__}: {error}"
            faults = 1 if time.monotonic() - began > _PROVEN_S else faults + 1
            self._reloading.wait(_PAUSES_S[min(faults, len(_PAUSES_S)) - 1] * random.uniform(0.75, 1.25))
            self._restarts += not self._stopping.is_set()

    def _one_life(self) -> None:
        """Of one process, until it fails, or nobody wants it any more."""
        if self._stopping.is_set():
            return
        child = HookChild(self._settings)
        try:
            self._pid = child.pid
            self._begin(child)
            self._skip_old()
            while not self._reloading.is_set():
                if (result := self._subscription.get(0.2)) is not None:
                    self._call(child, result)
            child.end()
        finally:
            self._pid = None
            child.kill()

    def _begin(self, child: HookChild) -> None:
        settings = {
            "skeleton": self._skeleton.name,
            "keypoints": self._skeleton.keypoints,
            "limbs": [[self._skeleton.keypoints[limb.start], self._skeleton.keypoints[limb.end]] for limb in self._skeleton.limbs],
            "memory_mb": self._settings.memory_mb,
            "timeout_s": self._settings.timeout_s,
        }
        answer = child.ask(orjson.dumps({"settings": settings}), max(_START_S, self._settings.timeout_s), self._reloading.is_set)
        if "ready" not in answer:
            raise HookFailed(f"it cannot be started: {answer.get('fatal') or answer.get('error')}")

    def _skip_old(self) -> None:
        """What waited while there was no process is too old now."""
        while self._subscription.get(0) is not None:
            self._skipped += 1

    def _call(self, child: HookChild, result: CameraResult) -> None:
        began, self._calls = time.monotonic(), self._calls + 1
        question = b'{"n":%d,"result":%s}' % (self._calls, result.as_json())
        answer = child.ask(question, self._settings.timeout_s, self._reloading.is_set)
        self._last_ms = 1e3 * (time.monotonic() - began)
        if "error" in answer:
            self._complain(str(answer["error"]))
            self._exceptions += 1
        events = answer.get("events", ())
        for value in events[:_EVENTS_A_CALL]:
            self._publish(value, result)
        if len(events) > _EVENTS_A_CALL:
            self._left_out += len(events) - _EVENTS_A_CALL
            self._complain(f"on_poses returned more than {_EVENTS_A_CALL} events in one call: the others are left out")

    def _publish(self, value: object, result: CameraResult) -> None:
        try:
            found = HookEvent.parse(value, "on_poses returned an event that is none")
            event = Event(result.camera, found.kind, found.state, result.at_s, found.zone, found.person, found.count, found.detail)
            event.as_json()
        except ConfigError as error:
            self._complain(str(error))
            self._exceptions += 1
            return
        except (TypeError, RecursionError) as error:  # nested too deep, or numbers too large: nobody after this could tell it
            self._complain(f"on_poses returned an event that cannot be told on: {error}")
            self._exceptions += 1
            return
        self._published += 1
        self._events.publish(event)

    def _complain(self, what: str) -> None:
        """A hook that fails at every frame fills no log."""
        if what != self._last_error or time.monotonic() - self._logged_s > _AGAIN_S:
            self._logged_s = time.monotonic()
            logger.error("hook %s: %s", self._settings.file, what)
        self._last_error = what


def check_hook(settings: HookSettings) -> None:
    """Raises ConfigError for a file that is not there or not Python. Runs nothing of it."""
    try:
        compile(settings.file.read_bytes(), str(settings.file), "exec")
    except OSError as error:
        raise ConfigError(f"hook.file: {settings.file}: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"hook.file: {settings.file}: not Python: {error}") from error
