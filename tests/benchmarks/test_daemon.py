"""`pose-bench daemon`: a source that goes on, by pose-run, by a daemon, and with its page open."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepose.benchmarks import daemon as benchmark
from edgepose.benchmarks.daemon import daemon_report
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import SourceError


def test_a_source_that_ends_is_refused(painted_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_want_websockets", lambda: None)
    with pytest.raises(SourceError, match="frames=3: ended too early"):
        daemon_report(open_bundle(painted_bundles["ov-fp32"]), "test:pattern?width=64&height=48&fps=200&frames=3", "CPU", 1, 1, 0.1)


def test_all_three_are_measured_on_one_camera(painted_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_WARM_UP_S", 0.1)
    source = "test:pattern?width=64&height=48&fps=200"
    found = daemon_report(open_bundle(painted_bundles["ov-fp32"]), source, "CPU", 1, 1, 0.3)
    assert found.source == source and found.execution.device == "CPU"
    assert all(turn.results_per_s > 1 and turn.cpu_ms > 0 for turn in (found.run, found.daemon, found.daemon_with_page))
    assert found.ratio == pytest.approx(found.daemon.results_per_s / found.run.results_per_s)
