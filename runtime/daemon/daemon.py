"""`Daemon`: the station, its services and its HTTP server under one configuration, which may change while it runs."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event as Flag
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.bundle import open_bundle
from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import ConfigError, EdgePoseError
from edgepose.engines.profile import best_slots
from edgepose.engines.registry import open_engine
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.complete_file import replace_file
from edgepose.runtime.daemon.camera_result import CameraResult
from edgepose.runtime.daemon.config import DaemonSettings, settings_from_toml, without_secrets
from edgepose.runtime.daemon.event import Event
from edgepose.runtime.daemon.http.server import HttpServer, try_to_serve
from edgepose.runtime.daemon.hub import Hub
from edgepose.runtime.daemon.logs import LogTail, start_logging
from edgepose.runtime.daemon.memory import give_memory_back
from edgepose.runtime.daemon.services import Services, service_plans
from edgepose.runtime.daemon.site import CameraState, ReloadReport
from edgepose.runtime.daemon.station import Station, Works

logger = logging.getLogger(__name__)
_HEALTHY_S = 12.0
"""How long a new configuration has to become healthy."""
_ANSWER_S = 5.0
_EVENTS_KEPT = 200
_LOOK_S = 0.05


class Daemon:
    """A `Site`. `path` is where the configuration came from, None where it came from options alone and nothing can be reloaded."""

    def __init__(self, settings: DaemonSettings, path: Path | None, options: Mapping[str, object], log_tail: LogTail) -> None:
        """Opens the engine. Raises EdgePoseError."""
        self._settings, self._path, self._options, self._log_tail = settings, path, options, log_tail
        self._works_key = _works_key(settings)
        self._station = Station(_works(settings))
        self.results: Hub[CameraResult] = self._station.results
        self.events, self.began_s = Hub[Event](_EVENTS_KEPT), time.monotonic()
        self._services, self._server = Services(), _Server(self)
        self._reloading, self._stopping = Lock(), Flag()

    def start(self) -> None:
        """Raises EdgePoseError where a service or the server cannot start; what did is then stopped."""
        try:
            self._station.start()
            self._station.watch(self._settings.cameras)
            self._services.apply(service_plans(self._settings, self))
            self._server.want(self._settings)
            self._server.serve()
        except EdgePoseError:
            self.stop()
            raise

    def stop(self) -> None:
        """Within 5 s, files complete."""
        self._stopping.set()
        self._server.stop(0.7)
        self._station.stop(1.5)
        self._services.stop(1.2)
        self.events.close()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def station(self) -> Station:
        return self._station

    @property
    def skeleton(self) -> Skeleton:
        return self._station.skeleton

    @property
    def execution(self) -> Execution:
        return self._station.execution

    def cameras(self) -> tuple[CameraState, ...]:
        return tuple(camera.state() for camera in self._station.cameras)

    def latest(self, camera: str) -> CameraResult | None:
        return self._station.camera(camera).latest

    def infer(self, picture: NDArray[np.uint8], timeout_s: float) -> CameraResult:
        return self._station.infer(picture, timeout_s)

    def ready(self) -> str:
        if self._station.trouble:
            return f"engine: {self._station.trouble}"
        required = {camera.settings.name for camera in self._station.cameras if camera.settings.enabled and camera.settings.required}
        away = [state for state in self.cameras() if state.name in required and state.condition != "live"]
        return "; ".join(f"camera {state.name}: {state.condition}" + (f" ({state.reason})" if state.reason else "") for state in away)

    def configuration(self) -> dict[str, object]:
        return without_secrets(self._settings)

    def status(self) -> dict[str, dict[str, object]]:
        """Of the engine and the services."""
        station = self._station
        engine = {"failures": station.failures, "trouble": station.trouble, "results": station.delivered}
        return {"engine": engine, **self._services.status()}

    def reload(self, text: str | None = None) -> ReloadReport:
        if self._path is None:
            raise ConfigError("no configuration file to reload: the daemon was started by options alone; start it with --config")
        if text is not None and not _writable(self._path):
            raise ConfigError(f"{self._path}: cannot be written, so a new configuration would be lost: change the file and send SIGHUP")
        if not self._reloading.acquire(blocking=text is None):  # who asks by a signal gets no answer to try again after
            return ReloadReport(False, "another configuration is being applied: try again when it is done", ())
        try:
            return self._exchanged(_settings(self._path, text, self._options), text)
        finally:
            give_memory_back()
            self._reloading.release()

    def refresh(self) -> None:
        """What a reload left for a calm moment: the HTTP server, whose own request it was; and a server that failed. For the main thread,
        now and then."""
        if not self._reloading.locked():
            self._server.serve()

    def _exchanged(self, settings: DaemonSettings, text: str | None) -> ReloadReport:
        """The new configuration tried, and kept or put back."""
        before, key, changes = self._settings, _works_key(settings), list[str]()
        live = {camera.settings.name for camera in self._station.cameras if camera.state().condition == "live"}
        try:
            self._server.try_out(settings)
            replaced = self._other_engine(settings) if key != self._works_key else None
        except EdgePoseError as error:  # before anything was touched: a torn bundle or an address that is taken harms nobody
            return ReloadReport(False, _line(error), ())
        if replaced is not None:
            changes.append(f"engine: opened anew from {settings.bundle.name}")
        try:
            reason = self._tried(settings, text, live, changes)
        except EdgePoseError as error:
            reason = _line(error)
        except BaseException:  # a mistake of ours: the state before, and then the error
            self._put_back(before, replaced)
            raise
        if reason:
            logger.error("reload: %s: the configuration before holds again", reason)
            self._put_back(before, replaced)
            return ReloadReport(False, reason, tuple(changes))
        if replaced is not None:
            replaced.engine.close()
        self._works_key = key
        changes += self._adopted(settings)
        logger.info("reload: %s", "; ".join(changes) or "nothing changed")
        return ReloadReport(True, "", tuple(changes))

    def _tried(self, settings: DaemonSettings, text: str | None, live: set[str], changes: list[str]) -> str:
        """Puts into force all that can be put back, adding to `changes` what it is, and says what does not become healthy: `live` cameras
        must stay so."""
        cameras = self._station.cameras
        if settings.parameters != self._settings.parameters:
            self._station.parse_with(settings.parameters)
            changes.append("pose: changed")
        changes += self._station.watch(settings.cameras)
        changes += self._services.apply(service_plans(settings, self))
        opened = {camera.settings.name for camera in self._station.cameras if camera not in cameras}
        reason = self._ailment(settings, live | opened)
        if not reason and text is not None and self._path is not None:
            replace_file(self._path, text.encode())  # what cannot be kept does not hold
        return reason

    def _adopted(self, settings: DaemonSettings) -> list[str]:
        """Makes the configuration the one that holds, and says what changed besides."""
        before, self._settings = self._settings, settings
        changes = self._server.want(settings)
        if settings.log != before.log:
            start_logging(settings.log, tail=self._log_tail)
            changes.append("log: changed")
        return changes

    def _other_engine(self, settings: DaemonSettings) -> Works:
        """Runs it, and gives what ran until now. Raises EdgePoseError; what ran then goes on."""
        works = _works(settings)
        try:
            return self._station.exchange(works)
        except EdgePoseError:
            works.engine.close()
            raise

    def _put_back(self, settings: DaemonSettings, replaced: Works | None) -> None:
        """`replaced` is what ran before another engine came. Of a daemon that is stopping nothing is begun again."""
        try:
            if replaced is not None:
                self._station.exchange(replaced).engine.close()
            self._station.parse_with(settings.parameters)
            self._station.watch(settings.cameras)
            self._services.apply(service_plans(settings, self))
        except EdgePoseError as error:
            logger.error("reload: %s: not all of the configuration before holds again", _line(error))
        finally:
            self._services.end_others(service_plans(settings, self))  # what the refused one began, also where something cannot start

    def _ailment(self, settings: DaemonSettings, names: set[str]) -> str:
        """What is not healthy after a while: the engine, or a required one of these cameras. Nothing where all is well."""
        self._station.infer(np.zeros((64, 64, 3), np.uint8), _ANSWER_S)
        wanted = [camera for camera in settings.cameras if camera.name in names and camera.enabled and camera.required]
        waited = {camera.name: self._station.camera(camera.name).results for camera in wanted}
        until = time.monotonic() + max([_HEALTHY_S, *(2 / camera.max_fps for camera in wanted if camera.max_fps)])
        while waited:
            waited = {name: results for name, results in waited.items() if self._station.camera(name).results <= results}
            if time.monotonic() > until:
                return "; ".join(f"camera {name}: {self._station.camera(name).state().reason or 'no result'}" for name in waited)
            if self._stopping.wait(_LOOK_S):
                return "the daemon is stopping"
        return ""


class _Server:
    """The HTTP server that the configuration asks for."""

    def __init__(self, daemon: Daemon) -> None:
        def made(settings: DaemonSettings) -> HttpServer:
            return HttpServer(settings.server, settings.auth, daemon, daemon._log_tail, daemon.status)

        self._make = made
        self._running: HttpServer | None = None
        self._wanted: DaemonSettings | None = None
        self._held: tuple[DaemonSettings, object] | None = None
        """What last listened, and its key."""
        self._due, self._said, self._lock = False, "", Lock()

    @property
    def url(self) -> str:
        return self._running.url if self._running else ""

    def try_out(self, settings: DaemonSettings) -> None:
        """Raises ConfigError where a server of these settings could not listen. Touches none that runs."""
        with self._lock:
            if self._is_other(settings):
                try_to_serve(settings.server, self._running.port if self._running else None)

    def want(self, settings: DaemonSettings) -> list[str]:
        """From the next `serve` on. Says what will change."""
        with self._lock:
            self._wanted, self._due = settings, self._is_other(settings)
            return ["server: started anew in a moment"] if self._due else []

    def serve(self) -> None:
        """Where another server is wanted than the one that runs, or that one failed. One that cannot listen at its new address listens
        at the old one, with the new tokens; one that can at neither is tried again. Raises ConfigError at the first, and then nothing."""
        with self._lock:
            if self._wanted is None or (self._running is not None and not self._running.failed and not self._due):
                return
            before, self._running, self._due = self._running, None, False
            try:
                if before is not None:
                    before.stop(2.0)
                self._start(self._wanted)
            except Exception as error:  # for the main loop: cameras and recordings go on, whatever befell the server
                if self._held is None:
                    raise
                self._say(error)
                with suppress(Exception):  # tried again in a moment
                    self._start(self._wanted.model_copy(update={"server": self._held[0].server}))

    def _start(self, settings: DaemonSettings) -> None:
        key, server = _server_key(settings), self._make(settings)
        server.start()
        self._running, self._held, self._said = server, (settings, key), ""

    def _say(self, error: Exception) -> None:
        """Once, while it is tried again and again."""
        if _line(error) != self._said:
            known = isinstance(error, EdgePoseError)
            logger.error("%s: the server stays where it was", _line(error), exc_info=None if known else error)
        self._said = _line(error)

    def stop(self, timeout_s: float) -> None:
        if self._running is not None:
            self._running.stop(timeout_s)

    def _is_other(self, settings: DaemonSettings) -> bool:
        """Than the one that last listened."""
        return self._held is None or _server_key(settings) != self._held[1]


def _settings(path: Path, text: str | None, options: Mapping[str, object]) -> DaemonSettings:
    if text is None:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    return settings_from_toml(text, str(path), path.absolute().parent, options=options)


def _works(settings: DaemonSettings) -> Works:
    def opened() -> Engine:
        bundle = open_bundle(settings.bundle)
        slots = settings.slots or best_slots(bundle, settings.device)
        return open_engine(bundle, settings.device, slots, build=settings.build)

    return Works(opened(), opened, settings.parameters)


def _works_key(settings: DaemonSettings) -> object:
    """Other files under the same name count as another bundle."""
    try:
        files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in settings.bundle.iterdir() if file.is_file())
    except OSError:
        files = []
    return settings.bundle, settings.device, settings.slots, settings.build, files


def _server_key(settings: DaemonSettings) -> object:
    """A certificate that was renewed under the same name counts as another server."""
    return settings.server, settings.auth, _digest(settings.server.tls_certificate), _digest(settings.server.tls_key)


def _digest(path: Path | None) -> str:
    """Of what a file holds; to complain of a missing one is left to whoever uses it."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _writable(path: Path) -> bool:
    return os.access(os.path.dirname(os.path.realpath(path)), os.W_OK)
