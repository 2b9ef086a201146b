"""`Services`: what listens to the station, each started, stopped and exchanged by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from time import perf_counter
from typing import Any, Protocol

from edgepose.engines.errors import InferenceFailed
from edgepose.runtime.daemon.config import DaemonSettings
from edgepose.runtime.daemon.site import Site

_TELLING = ("events", "hook")
_END_S = 10.0
"""For a service that is exchanged: a recorder may have much to complete on a slow disk."""


class Service(Protocol):
    def start(self) -> None: ...
    def stop(self, timeout_s: float) -> None: ...
    def status(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make a service, and all that it was made from: where that is the same, it need not be made anew. `adjust` takes over what may
    change while it runs, which is `adjustable`."""

    made_from: object
    make: Callable[[], Service]
    adjustable: object = None
    adjust: Callable[[Any], None] = lambda _: None


class Services:
    """Those that run, by name. `apply` is for one thread at a time, everything else for any."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Plan, Service]] = {}
        self._lock, self._stopped = Lock(), False

    def apply(self, plans: Mapping[str, Plan]) -> list[str]:
        """Starts, exchanges and stops until these run. Gives what was done. Raises EdgePoseError where one cannot start, as none can after
        `stop`; it is then missing, and what comes after it is as it was. What is no longer planned is stopped last, so that it has lost
        nothing where another cannot start."""
        changes = []
        for name, plan in plans.items():
            known = self._running.get(name)
            if known is not None and known[0].made_from == plan.made_from:
                if known[0].adjustable != plan.adjustable:
                    plan.adjust(known[1])
                    changes.append(f"{name}: adjusted")
                self._running[name] = plan, known[1]
                continue
            if known is not None:
                self._end(name)
            self._begin(name, plan)
            changes.append(f"{name}: {'on' if known is None else 'started anew'}")
        return changes + self.end_others(plans)

    def end_others(self, plans: Mapping[str, Plan]) -> list[str]:
        """Stops those that are not planned, and gives what was done."""
        others = [name for name in self._running if name not in plans]
        for name in others:
            self._end(name)
        return [f"{name}: off" for name in others]

    def stop(self, timeout_s: float) -> None:
        """Those that tell of events in half of the time, then those that write them down or send them in all of it; none starts after
        that."""
        with self._lock:
            self._stopped, running = True, self._running
            self._running = {}
        tell = {name for name in running if name in _TELLING}
        for names, left_s in ((tell, timeout_s / 2), (running.keys() - tell, timeout_s)):
            _stop_together([running[name][1] for name in names], left_s)

    def status(self) -> dict[str, dict[str, object]]:
        return {name: service.status() for name, (_, service) in tuple(self._running.items())}

    def _begin(self, name: str, plan: Plan) -> None:
        with self._lock:  # what starts while all are stopped would be stopped by nobody
            if self._stopped:
                raise InferenceFailed(f"{name}: the daemon is stopping")
            service = plan.make()
            service.start()
            self._running[name] = plan, service

    def _end(self, name: str) -> None:
        with self._lock:
            known = self._running.pop(name, None)
        if known is not None:
            known[1].stop(_END_S)


def _stop_together(services: Sequence[Service], timeout_s: float) -> None:
    """So that the slow do not take the time of the others."""
    stopping = [Thread(target=service.stop, args=(timeout_s,), name="edgepose stop") for service in services]
    until = perf_counter() + timeout_s + 0.3
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join(max(0.0, until - perf_counter()))


def service_plans(settings: DaemonSettings, site: Site) -> dict[str, Plan]:
    """Recording, events, hook and MQTT, where the configuration has them. Their libraries are imported when they are made."""
    skeleton, plans = site.skeleton, dict[str, Plan]()
    if (recording := settings.recording) is not None:

        def recorder() -> Service:
            from edgepose.runtime.daemon.recording import Recorder

            return Recorder(recording, skeleton, site.results, site.events)

        plans["recording"] = Plan((recording, skeleton), recorder)
    watched = tuple(camera for camera in settings.cameras if camera.events)
    if watched:
        from edgepose.runtime.daemon.events.detector import EventDetector

        def detector() -> EventDetector:
            return EventDetector(watched, skeleton, site.results, site.events)

        plans["events"] = Plan(skeleton, detector, watched, lambda running: running.reconfigure(watched))
    if (hook := settings.hook) is not None:
        from edgepose.runtime.daemon.hook import HookProcess

        def process() -> HookProcess:
            return HookProcess(hook, skeleton, site.results, site.events)

        plans["hook"] = Plan((hook, skeleton), process, _digest(hook.file), lambda running: running.reload())
    if (mqtt := settings.mqtt) is not None:

        def client() -> Service:
            from edgepose.runtime.daemon.mqtt import MqttClient

            return MqttClient(mqtt, site)

        plans["mqtt"] = Plan(None, client, mqtt, lambda running: running.adjust(mqtt))  # it looks for the cameras itself
    return plans


def _digest(path: Path) -> str:
    """Of what a file holds; a missing one is the service's to complain of."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
