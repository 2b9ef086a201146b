"""`pose-bench daemon`: only a source that goes on is measured."""

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
