"""What is said of a camera that is down."""

from __future__ import annotations

import logging

import pytest

from edgepose.engines.errors import SourceError
from edgepose.runtime.daemon import patient_source
from edgepose.runtime.daemon.patient_source import PatientSource
from edgepose.runtime.sources import Source


def test_a_camera_that_is_down_is_complained_of_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """And at once where the reason changes; by attempts, of which one in five seconds is made."""
    reasons: list[Exception] = [SourceError("refused")] * 100 + [SourceError("no route"), ValueError("ours"), ValueError("ours")]
    attempts, now = iter(reasons), [0.0]
    said = list[tuple[float, str]]()

    def opened() -> Source:
        now[0] += 5
        if (error := next(attempts, None)) is not None:
            raise error
        source.stop()
        raise SourceError("stopped")

    monkeypatch.setattr(patient_source, "_PAUSES_S", (0.0,))
    monkeypatch.setattr(patient_source, "perf_counter", lambda: now[0])
    monkeypatch.setattr(patient_source.logger, "warning", lambda *told: said.append((now[0], told[2])))
    source = PatientSource("hall", opened)
    with caplog.at_level(logging.ERROR):
        assert list(source.frames()) == []
    refused = [(at_s, "refused") for at_s in (5, 65, 185, 425)]
    assert said == [*refused, (505, "no route"), (510, "internal error: ValueError"), (520, "stopped")]
    assert caplog.text.count("Traceback") == 1, "a mistake of ours is told as seldom"


def test_a_camera_that_was_there_for_a_while_is_complained_of_anew(caplog: pytest.LogCaptureFixture) -> None:
    source = PatientSource("hall", lambda: pytest.fail("opened"))
    for steady in (False, False, True):
        source.trouble = "gone"
        source._complain(None, steady)
    assert caplog.text.count("gone") == 2
