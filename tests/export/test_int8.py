"""INT8 and FP16 bundles of a trained network: calibrated, judged, refused, cached, and read by TensorRT's own parser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.calibration.calibrator import CalibrationRequest
from edgepose.calibration.coco import CocoLabels
from edgepose.calibration.graph import network_graph
from edgepose.calibration.judge import Gate
from edgepose.calibration.qdq_rules import qdq_rules
from edgepose.calibration.ranges import CALIBRATORS, mean_min_max, min_max
from edgepose.calibration.source import calibration_set
from edgepose.calibration.statistics import statistics_of
from edgepose.calibration.survey import outliers
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import AccuracyGateFailed, BackendUnavailable, CalibrationError, ConfigError, ExportError
from edgepose.engines.onnxruntime_ import session_from_onnx
from edgepose.engines.registry import open_engine
from edgepose.engines.target import target_named
from edgepose.engines.tensorrt_.build import run_builder
from edgepose.engines.tensorrt_.plan import BuildSettings
from edgepose.export.cli import picture_sample
from edgepose.export.divergence import relative_rmse
from edgepose.export.exporter import Export, export_bundles
from edgepose.export.fp16_from_onnx import fp16_from_onnx
from edgepose.export.network import Network, network_from_onnx
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.sources import picture_from_file

TARGETS = ("ov-int8", "trt-int8", "trt-fp16")
COUNT = 12


@pytest.fixture(scope="session")
def small_real_network(real_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """human-pose-estimation-0001 at 192 x 320, traced once."""
    made = export_bundles(real_network.resized(192, 320), [target_named("onnx")], tmp_path_factory.mktemp("onnx"))
    return network_from_onnx(made[0].bundle.model_path, None)


@pytest.fixture(scope="session")
def request_(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> CalibrationRequest:
    cache = tmp_path_factory.mktemp("calibration-cache")
    return CalibrationRequest(
        source=str(assets / "people" / "unlabelled"), count=COUNT, calibrator="mean-min-max", gate=Gate(min_oks=0.7), cache=cache
    )


@pytest.fixture(scope="session")
def int8_bundles(
    small_real_network: Network, request_: CalibrationRequest, assets: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Export]:
    out = tmp_path_factory.mktemp("int8")
    pictures = picture_sample(assets / "coco" / "val", 8, small_real_network)
    made = export_bundles(small_real_network, [target_named(n) for n in TARGETS], out, 1, pictures, calibration=request_)
    return dict(zip(TARGETS, made, strict=True))


def test_both_int8_bundles_tell_what_they_were_made_from_and_what_they_lose(int8_bundles: dict[str, Export]) -> None:
    for name in ("ov-int8", "trt-int8"):
        manifest = open_bundle(int8_bundles[name].bundle.path).manifest
        assert manifest.calibration is not None and manifest.accuracy is not None
        assert manifest.calibration.pictures == COUNT and len(manifest.calibration.fingerprint) == 64
        assert manifest.calibration.int8_share > 0.99
        assert manifest.accuracy.oks_mean > 0.7 and manifest.accuracy.persons > 10
        report = json.loads((int8_bundles[name].bundle.path / "calibration.json").read_text())
        assert report["calibration"]["with_people"] > COUNT / 2
        assert report["steps"][-1]["verdict"]["oks"] == manifest.accuracy.oks_mean
        page = (int8_bundles[name].bundle.path / "calibration.html").read_text()
        assert page.count("<svg") == 3 and page.count("data:image/jpeg") == 4


def test_ov_int8_really_computes_in_int8(int8_bundles: dict[str, Export]) -> None:
    """With UINT8 where activations are never negative: most of this network's, whose first layers end in a ReLU."""
    execution = int8_bundles["ov-int8"].execution
    signed, unsigned = (execution.precisions[name] for name in ("i8", "u8"))
    assert signed + unsigned == 56 and unsigned > 40 and sum(execution.precisions.values()) == 58
    assert execution.shares["int8"] > 0.99


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


def test_the_simulation_computes_every_pair_as_the_standard_says(int8_bundles: dict[str, Export]) -> None:
    """Against ONNX Runtime without its optimiser, which on its own would quantise biases too; what remains are roundings that flip."""
    import onnxruntime as ort

    bundle = int8_bundles["trt-int8"].bundle
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(str(bundle.model_path), options, ["CPUExecutionProvider"])
    size = bundle.contract.input
    seen = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 3, size.height, size.width)).astype(np.float32)
    wanted, found = (session.run(["heatmaps"], {size.name: seen})[0] for session in (plain, session_from_onnx(bundle.model_path)))
    assert relative_rmse(wanted, found) < 0.006


def test_a_gate_that_cannot_hold_leaves_no_bundle_and_tells_every_step(
    small_real_network: Network, request_: CalibrationRequest, assets: Path, tmp_path: Path
) -> None:
    labels = CocoLabels(assets / "coco" / "val.json", assets / "coco" / "val")
    labels.pictures = dict(list(labels.pictures.items())[:6])
    request = replace(request_, gate=Gate(max_ap_drop=-1.0), labels=labels)
    with pytest.raises(AccuracyGateFailed, match=r"AP drop at most -1.*calibrated, 100% INT8.*back to floating point") as caught:
        export_bundles(small_real_network, [target_named("ov-int8")], tmp_path, calibration=request)
    assert "AP 0." in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_outlier_picture_is_named_and_moves_only_min_max(small_real_network: Network, assets: Path, tmp_path: Path) -> None:
    """Black and white noise among people: it alone stretches the ranges of the first layers."""
    import cv2

    assert small_real_network.onnx
    paths = sorted((assets / "people" / "unlabelled").iterdir())[:COUNT]
    noise = np.repeat(np.random.default_rng(0).integers(0, 2, (192, 320, 1)) * 255, 3, axis=2)
    people = [cv2.resize(picture_from_file(path), (320, 192)) for path in paths]
    np.savez(tmp_path / "p.npz", pictures=np.stack([*people, noise]).astype(np.uint8))
    contract, graph = small_real_network.contract, network_graph(small_real_network.onnx)
    found = calibration_set(str(tmp_path / "p.npz"), contract.input, COUNT + 1, 0)
    statistics = statistics_of(graph.path, graph.tensors, contract, 1, found.pictures, 0)
    assert outliers(statistics, found)[0].startswith(f"p.npz[{COUNT}] alone stretches the ranges of")
    others = np.arange(COUNT + 1) != found.names.index(f"p.npz[{COUNT}]")
    without = replace(statistics, low=statistics.low[others], high=statistics.high[others])
    grown = {
        name: np.array([calibrator(statistics)[t][1] / calibrator(without)[t][1] for t in graph.tensors])
        for name, calibrator in (("min-max", min_max), ("mean-min-max", mean_min_max))
    }
    assert np.count_nonzero(grown["min-max"] > 1.5) >= 3
    assert grown["mean-min-max"].max() < 1.2


def test_auto_judges_the_calibrators_that_agree_best_first(
    small_real_network: Network, int8_bundles: dict[str, Export], request_: CalibrationRequest, tmp_path: Path
) -> None:
    assert int8_bundles
    request = replace(request_, calibrator="auto", gate=Gate(min_oks=0.0))
    (made,) = export_bundles(small_real_network, [target_named("ov-int8")], tmp_path, calibration=request)
    *tried, judged = json.loads((made.bundle.path / "calibration.json").read_text())["steps"]
    assert [step["calibrator"] for step in tried] == list(CALIBRATORS) and all(step["quick"] for step in tried)
    best = max(tried, key=lambda step: step["verdict"]["oks"])
    assert not judged["quick"] and judged["calibrator"] == best["calibrator"] == made.bundle.manifest.calibration.calibrator


def test_pictures_without_people_are_refused(small_real_network: Network, request_: CalibrationRequest, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 160, 3), np.uint8)
    np.savez(tmp_path / "noise.npz", pictures=noise)
    request = replace(request_, source=str(tmp_path / "noise.npz"))
    with pytest.raises(CalibrationError, match="finds people in 0 of 8 pictures"):
        export_bundles(small_real_network, [target_named("trt-int8")], tmp_path / "out", calibration=request)
    assert not list((tmp_path / "out").glob("*"))


def test_exchanged_colours_are_noticed(small_real_network: Network, request_: CalibrationRequest, assets: Path, tmp_path: Path) -> None:
    import cv2

    paths = sorted((assets / "people" / "unlabelled").iterdir())[:24]
    np.savez(tmp_path / "rgb.npz", pictures=np.stack([cv2.resize(picture_from_file(p), (320, 192))[..., ::-1] for p in paths]))
    request = replace(request_, source=str(tmp_path / "rgb.npz"), count=24)
    with pytest.raises(CalibrationError, match="blue and red look exchanged"):
        export_bundles(small_real_network, [target_named("ov-int8")], tmp_path / "out", calibration=request)


def test_an_interrupted_calibration_leaves_no_bundle(small_real_network: Network, request_: CalibrationRequest, tmp_path: Path) -> None:
    steps: list[str] = []
    export_bundles(small_real_network, [target_named("ov-int8")], tmp_path / "whole", say=steps.append, calibration=request_)
    for stop in (len(steps) // 2, len(steps) - 1):
        told: list[str] = []

        def say(step: str, stop: int = stop, told: list[str] = told) -> None:
            told.append(step)
            if len(told) > stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_bundles(small_real_network, [target_named("ov-int8")], tmp_path / "cut", say=say, calibration=request_)
        assert not list((tmp_path / "cut").glob("*.pose"))


def test_a_second_calibration_takes_everything_from_the_cache(
    small_real_network: Network, int8_bundles: dict[str, Export], request_: CalibrationRequest, assets: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in request_.cache.rglob("*")}
    pictures = picture_sample(assets / "coco" / "val", 8, small_real_network)
    again = export_bundles(small_real_network, [target_named("trt-int8")], tmp_path, 1, pictures, calibration=request_)
    assert again[0].bundle.model_path.read_bytes() == int8_bundles["trt-int8"].bundle.model_path.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in request_.cache.rglob("*")} == before


def test_int8_wants_pictures(small_real_network: Network, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give some with --calib"):
        export_bundles(small_real_network, [target_named("ov-int8")], tmp_path)


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
