"""Engines alone: what ran is told, and only bundles that see the same pictures are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgepose.benchmarks.engine import engine_cases
from edgepose.engines.errors import ConfigError
from edgepose.engines.target import target_named
from edgepose.export.exporter import export_bundles
from edgepose.export.network import network_from_onnx


def test_bundles_take_turns_and_the_first_is_the_measure(painted_bundles: dict[str, Path], painted_pictures: list[Path]) -> None:
    ticks: list[None] = []
    paths = [painted_bundles[name] for name in ("ov-fp32", "onnx")]
    first, second = engine_cases(paths, painted_pictures, "CPU", 2, 3, 0.01, lambda: ticks.append(None))
    assert len(ticks) == len(first.per_second) == len(second.per_second) == 3
    assert first.multiple == 1 and first.oks == 1 and second.oks == pytest.approx(1, abs=1e-3)
    assert first.persons == second.persons > 0
    assert first.best >= first.median > 0
    assert first.shares == {"f32": 1.0} and second.shares == {}
    assert first.execution.multiplications["f32"] == 7_522_560


def test_bundles_of_different_networks_are_not_compared(painted_bundles: dict[str, Path], tiny_model: Any, tmp_path: Path) -> None:
    network = network_from_onnx(tiny_model.write_onnx(tmp_path / "tiny.onnx"), tiny_model.contract)
    other = export_bundles(network, [target_named("onnx")], tmp_path)[0].bundle.path
    with pytest.raises(ConfigError, match="sees other pictures"):
        engine_cases([painted_bundles["onnx"], other], [], "CPU", 1, 1, 0.01, lambda: None)
