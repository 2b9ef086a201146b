"""The GPU's checks, run whole on the emulated driver: what they compare, not how fast."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgepose.benchmarks import gpu
from edgepose.engines.errors import ConfigError
from edgepose.engines.tensorrt_.build import run_builder


def test_every_check_runs_and_outputs_agree(
    emulated_cuda: Any, tiny_bundles: dict[str, Path], assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulated TensorRT takes the ONNX file for the plan."""

    def take_onnx(onnx: Path, precision: str, settings: object, plan: Path, log: Path, tick: object) -> dict[str, int]:
        assert run_builder and (precision, settings, log, tick)
        plan.write_bytes(onnx.read_bytes())
        return {"f32": 2}

    monkeypatch.setattr("edgepose.engines.tensorrt_.build.run_builder", take_onnx)
    monkeypatch.setattr(gpu, "import_tensorrt", lambda: emulated_cuda.tensorrt)
    bundle = shutil.copytree(tiny_bundles["trt-fp32"], tmp_path / "tiny.trt-fp32.pose")
    pictures = sorted((assets / "people" / "unlabelled").iterdir())[:2]
    checks = {check.name: check for check in gpu.gpu_checks([bundle], pictures, 0.02, 3, lambda _: None)}
    assert len(checks) == 7
    for name in ("trt-fp32: relative RMSE of heatmaps", "trt-fp32: relative RMSE of PAFs", "MiB kept by 3 opens"):
        assert checks[name].holds, checks[name]
    assert checks["preprocessing 1280 x 720 over copying its bytes"].value > 0


def test_a_reference_is_wanted(emulated_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "import_tensorrt", lambda: emulated_cuda.tensorrt)
    with pytest.raises(ConfigError, match="give a trt-fp32 bundle"):
        gpu.gpu_checks([], [], 1, 1, print)
