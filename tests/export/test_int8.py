"""INT8 and FP16 bundles of a trained network: calibrated, judged, and read by TensorRT's own parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.calibration.calibrator import CalibrationRequest
from edgepose.calibration.judge import Gate
from edgepose.calibration.qdq_rules import qdq_rules
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import BackendUnavailable, ExportError
from edgepose.engines.registry import open_engine
from edgepose.engines.target import target_named
from edgepose.engines.tensorrt_.build import run_builder
from edgepose.engines.tensorrt_.plan import BuildSettings
from edgepose.export.cli import picture_sample
from edgepose.export.exporter import Export, export_bundles
from edgepose.export.fp16_from_onnx import fp16_from_onnx
from edgepose.export.network import network_from_onnx
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.sources import picture_from_file

TARGETS = ("ov-int8", "trt-int8", "trt-fp16")
COUNT = 8


@pytest.fixture(scope="session")
def int8_bundles(real_bundles: dict[str, Export], assets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """human-pose-estimation-0001 at 256 x 456, from the ONNX that was traced for all tests."""
    network = network_from_onnx(real_bundles["onnx"].bundle.model_path, None)
    people = str(assets / "people" / "unlabelled")
    request = CalibrationRequest(
        people, COUNT, calibrator="mean-min-max", gate=Gate(min_oks=0.7), cache=tmp_path_factory.mktemp("calibration-cache")
    )
    pictures = picture_sample(assets / "coco" / "val", 6, network)
    made = export_bundles(network, [target_named(n) for n in TARGETS], tmp_path_factory.mktemp("int8"), 1, pictures, calibration=request)
    return dict(zip(TARGETS, made, strict=True))


@pytest.mark.slow
def test_both_int8_bundles_tell_what_they_were_made_from_and_what_they_lose(int8_bundles: dict[str, Export]) -> None:
    for name in ("ov-int8", "trt-int8"):
        manifest = open_bundle(int8_bundles[name].bundle.path).manifest
        assert manifest.calibration is not None and manifest.accuracy is not None
        assert manifest.calibration.pictures == COUNT and len(manifest.calibration.fingerprint) == 64
        assert manifest.calibration.int8_share > 0.99
        assert manifest.accuracy.oks_mean > 0.7 and manifest.accuracy.persons > 5
        report = json.loads((int8_bundles[name].bundle.path / "calibration.json").read_text())
        assert report["calibration"]["with_people"] > COUNT / 2
        assert report["steps"][-1]["verdict"]["oks"] == manifest.accuracy.oks_mean
        page = (int8_bundles[name].bundle.path / "calibration.html").read_text()
        assert page.count("<svg") == 3 and page.count("data:image/jpeg") == 4


@pytest.mark.slow
def test_ov_int8_really_computes_in_int8(int8_bundles: dict[str, Export]) -> None:
    """All layers but the two heads."""
    execution = int8_bundles["ov-int8"].execution
    assert sum(execution.precisions.get(name, 0) for name in ("i8", "u8")) == 56 and sum(execution.precisions.values()) == 58
    assert execution.shares["int8"] > 0.99
    weights = {name: int8_bundles[name].bundle.model_path for name in ("ov-int8", "trt-int8")}
    assert weights["ov-int8"].with_suffix(".bin").stat().st_size < weights["trt-int8"].stat().st_size / 3


@pytest.mark.slow
def test_a_trt_bundle_is_simulated_on_the_cpu_when_asked_and_never_quietly(int8_bundles: dict[str, Export], assets: Path) -> None:
    path = int8_bundles["trt-int8"].bundle.path
    with pytest.raises(BackendUnavailable, match="--device CPU simulates"):
        open_engine(path)
    engine = open_engine(path, "CPU")
    try:
        assert "simulating TensorRT" in engine.execution.backend
        people = PoseEstimator(engine).estimate(picture_from_file(sorted((assets / "people" / "unlabelled").iterdir())[0]))
        assert len(people) >= 1
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.needs("tensorrt_rtx_bindings")
@pytest.mark.parametrize(("name", "layers"), [("trt-int8", {"i8": 56, "f16": 2}), ("trt-fp16", {"f16": 58})])
def test_tensorrt_builds_every_trt_bundle_in_the_precision_it_names(
    name: str, layers: dict[str, int], int8_bundles: dict[str, Export], tmp_path: Path
) -> None:
    """By TensorRT-RTX's own parser and builder; the layers are those of its plan."""
    import onnx

    path = int8_bundles[name].bundle.model_path
    assert qdq_rules(onnx.load(str(path))) == []
    found = run_builder(path, target_named(name).precision, BuildSettings(), tmp_path / "x.plan", tmp_path / "x.log", lambda *_: None)
    assert found == layers
    assert (tmp_path / "x.plan").stat().st_size > 100_000


def test_fp16_keeps_what_it_cannot_hold_in_fp32(tmp_path: Path, tiny_model: Any) -> None:
    import onnx
    from onnx import numpy_helper

    path = tiny_model.write_onnx(tmp_path / "tiny.onnx", 1)
    model = onnx.load(str(path))
    seen = np.random.default_rng(0).standard_normal((1, 3, 24, 32)).astype(np.float32)
    half, islands = fp16_from_onnx(path, seen, 1e-2)
    assert islands == () and any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
    heat = next(tensor for tensor in model.graph.initializer if tensor.name == "heat_weights")
    heat.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(heat) * np.float32(1e6), heat.name))
    onnx.save(model, str(path))
    _, islands = fp16_from_onnx(path, seen, 1e-2)
    assert islands == ("heat",)


def test_what_does_not_hold_in_fp16_is_refused(tmp_path: Path, tiny_model: Any) -> None:
    path = tiny_model.write_onnx(tmp_path / "tiny.onnx", 1)
    seen = np.random.default_rng(0).standard_normal((1, 3, 24, 32)).astype(np.float32)
    with pytest.raises(ExportError, match="does not hold in FP16"):
        fp16_from_onnx(path, seen, 1e-9)
