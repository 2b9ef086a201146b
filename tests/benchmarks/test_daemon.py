"""`pose-bench daemon`: only a source that goes on is measured, and no report holds its password."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgepose.benchmarks import daemon as benchmark
from edgepose.benchmarks.daemon import Turn, daemon_report
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import SourceError


def test_a_source_that_ends_is_refused(painted_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_want_websockets", lambda: None)
    with pytest.raises(SourceError, match="frames=3: ended too early"):
        daemon_report(open_bundle(painted_bundles["ov-fp32"]), "test:pattern?width=64&height=48&fps=200&frames=3", "CPU", 1, 1, 0.1)


def test_the_report_holds_no_password(painted_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    turn: Any = lambda *_: Turn(10.0, 1.0)  # noqa: E731
    fakes = {"_want_websockets": lambda: None, "_pose_run": turn, "_turn": turn, "_page": nullcontext}
    for name, fake in {**fakes, "_daemon": lambda *_: nullcontext(SimpleNamespace(execution=None))}.items():
        monkeypatch.setattr(benchmark, name, fake)
    report = daemon_report(open_bundle(painted_bundles["ov-fp32"]), "rtsp://admin:geheim@camera/1", "CPU", 1, 1, 0.1)
    assert report.source == "rtsp://admin:***@camera/1"
