"""Services that are put back after a reload that did not hold."""

from __future__ import annotations

import pytest

from edgepose.engines.errors import SinkError
from edgepose.runtime.daemon.services import Plan, Services


class Recorded:
    def __init__(self, name: str, log: list[str], starts: bool = True) -> None:
        self._name, self._log, self._starts = name, log, starts

    def start(self) -> None:
        if not self._starts:
            raise SinkError(f"{self._name} cannot start")
        self._log.append(f"{self._name} starts")

    def stop(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self._log.append(f"{self._name} stops")

    def status(self) -> dict[str, object]:
        return {}


def plan(name: str, log: list[str], starts: bool = True) -> Plan:
    return Plan((name, starts), lambda: Recorded(name, log, starts))


def test_what_is_no_longer_planned_stops_last_and_not_for_plans_that_do_not_hold() -> None:
    log: list[str] = []
    services = Services()
    services.apply({"mqtt": plan("mqtt", log)})
    with pytest.raises(SinkError, match="hook cannot start"):
        services.apply({"hook": plan("hook", log, starts=False)})
    assert [*services.status()] == ["mqtt"] and log == ["mqtt starts"]
    assert services.apply({"hook": plan("hook", log)}) == ["hook: on", "mqtt: off"]
    assert log == ["mqtt starts", "hook starts", "mqtt stops"]


def test_putting_back_ends_what_the_refused_one_began_also_where_something_cannot_start() -> None:
    log: list[str] = []
    services, before = Services(), {"hook": plan("hook", log, starts=False)}
    services.apply({"mqtt": plan("mqtt", log)})
    with pytest.raises(SinkError):
        services.apply(before)
    assert services.end_others(before) == ["mqtt: off"] and not services.status()
