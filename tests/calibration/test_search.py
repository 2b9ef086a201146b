"""A whole calibration, from pictures to the gate, on a network small enough to be searched again and again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import painted_people
import pytest
from numpy.typing import NDArray

from edgepose.calibration.calibrator import CalibrationRequest
from edgepose.calibration.graph import network_graph
from edgepose.calibration.judge import Gate
from edgepose.calibration.ranges import CALIBRATORS, mean_min_max, min_max
from edgepose.calibration.source import calibration_set
from edgepose.calibration.statistics import statistics_of
from edgepose.calibration.survey import outliers
from edgepose.engines.errors import AccuracyGateFailed, CalibrationError, ConfigError
from edgepose.engines.onnxruntime_ import session_from_onnx
from edgepose.engines.target import target_named
from edgepose.engines.tensorrt_.build import run_builder
from edgepose.engines.tensorrt_.plan import BuildSettings
from edgepose.export.divergence import relative_rmse
from edgepose.export.exporter import Export, export_bundles
from edgepose.export.network import Network, network_from_onnx

COUNT = 12
HEADS = 2
LAYERS = painted_people.LAYERS


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = painted_people.write_painted_network(tmp_path_factory.mktemp("painted") / "painted.onnx")
    return network_from_onnx(path, painted_people.CONTRACT)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> CalibrationRequest:
    folder = tmp_path_factory.mktemp("calibration")
    source = archive(folder, painted_people.painted_pictures(COUNT))
    return CalibrationRequest(source, COUNT, calibrator="mean-min-max", gate=Gate(min_oks=0.9), cache=folder / "cache")


@pytest.fixture(scope="module")
def bundles(painted: Network, asked: CalibrationRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    return exported(painted, asked, tmp_path_factory.mktemp("bundles"), "ov-int8", "trt-int8", "trt-fp16")


def archive(folder: Path, pictures: NDArray[np.uint8]) -> str:
    np.savez(folder / "p.npz", pictures=pictures)
    return str(folder / "p.npz")


def exported(network: Network, request: CalibrationRequest, out: Path, *targets: str) -> dict[str, Export]:
    made = export_bundles(network, [target_named(name) for name in targets], out, calibration=request)
    return dict(zip(targets, made, strict=True))


def test_every_layer_but_the_heads_is_computed_in_int8(bundles: dict[str, Export]) -> None:
    executed = bundles["ov-int8"].execution.precisions
    assert executed["u8"] + executed.get("i8", 0) == LAYERS - HEADS
    for name in ("ov-int8", "trt-int8"):
        manifest = bundles[name].bundle.manifest
        assert manifest.accuracy is not None and manifest.accuracy.oks_mean > 0.99 and manifest.accuracy.persons > COUNT


def test_a_report_shows_pictures_unless_the_bundle_goes_to_others(
    bundles: dict[str, Export], painted: Network, asked: CalibrationRequest, tmp_path: Path
) -> None:
    request = replace(asked, report_pictures=False, overflow_fix=True)
    passed_on = exported(painted, request, tmp_path, "ov-int8")["ov-int8"].bundle.path
    kept = bundles["ov-int8"].bundle.path
    pages = [(path / "calibration.html").read_text() for path in (kept, passed_on)]

    assert ["data:image/jpeg" in page for page in pages] == [True, False]
    assert json.loads((passed_on / "calibration.json").read_text())["chosen"]["weight_bits"] == 7


@pytest.mark.needs("tensorrt_rtx_bindings")
@pytest.mark.parametrize(("name", "layers"), [("trt-int8", {"i8": LAYERS - HEADS, "f16": HEADS}), ("trt-fp16", {"f16": LAYERS})])
def test_tensorrt_builds_both_in_the_precision_they_name(
    name: str, layers: dict[str, int], bundles: dict[str, Export], tmp_path: Path
) -> None:
    """By TensorRT-RTX's own parser and builder; the layers are those of its plan. The real networks are in tests/export, and slow."""
    path = bundles[name].bundle.model_path
    precision = target_named(name).precision
    assert run_builder(path, precision, BuildSettings(), tmp_path / "x.plan", tmp_path / "x.log", lambda *_: None) == layers


def test_the_simulation_computes_every_pair_as_the_standard_says(bundles: dict[str, Export]) -> None:
    """Against ONNX Runtime without its optimiser, which on its own would quantise biases too; what remains are roundings that flip."""
    import onnxruntime as ort

    bundle = bundles["trt-int8"].bundle
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(str(bundle.model_path), options, ["CPUExecutionProvider"])
    size = bundle.contract.input
    seen = np.random.default_rng(0).uniform(0, 1, (1, 3, size.height, size.width)).astype(np.float32)
    wanted, found = (session.run(["heat_out"], {size.name: seen})[0] for session in (plain, session_from_onnx(bundle.model_path)))
    assert relative_rmse(wanted, found) < 0.006


def test_auto_judges_the_calibrators_that_agree_best_first(painted: Network, asked: CalibrationRequest, tmp_path: Path) -> None:
    made = exported(painted, replace(asked, calibrator="auto"), tmp_path, "ov-int8")["ov-int8"].bundle
    *tried, judged = json.loads((made.path / "calibration.json").read_text())["steps"]
    assert [step["calibrator"] for step in tried] == list(CALIBRATORS) and all(step["quick"] for step in tried)
    best = max(tried, key=lambda step: step["verdict"]["oks"])
    assert made.manifest.calibration is not None
    assert not judged["quick"] and judged["calibrator"] == best["calibrator"] == made.manifest.calibration.calibrator


def test_a_gate_that_cannot_hold_leaves_no_bundle_and_tells_every_step(painted: Network, asked: CalibrationRequest, tmp_path: Path) -> None:
    request = replace(asked, calibrator="auto", gate=Gate(min_oks=1.0))
    steps = r"OKS at least 1\).*calibrated, 99% INT8.*calibrated, 99%.*ranges chosen by their poses, 99%.*2 layers back to floating point"
    with pytest.raises(AccuracyGateFailed, match=steps):
        exported(painted, request, tmp_path, "ov-int8")
    assert list(tmp_path.iterdir()) == []


def test_pictures_without_people_are_refused(painted: Network, asked: CalibrationRequest, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, painted_people.HEIGHT, painted_people.WIDTH, 1), np.uint8).repeat(3, axis=3)
    with pytest.raises(CalibrationError, match="finds people in 0 of 8 pictures"):
        exported(painted, replace(asked, source=archive(tmp_path, noise)), tmp_path / "out", "trt-int8")
    assert not list((tmp_path / "out").glob("*"))


def test_a_gate_without_anybody_in_it_is_refused(painted: Network, asked: CalibrationRequest, tmp_path: Path) -> None:
    """Whatever INT8 finds would hold it."""
    grey = np.full((3, painted_people.HEIGHT, painted_people.WIDTH, 3), 128, np.uint8)
    with pytest.raises(CalibrationError, match="finds nobody in the gate's pictures"):
        export_bundles(painted, [target_named("ov-int8")], tmp_path, pictures=grey, calibration=asked)
    assert not list(tmp_path.glob("*"))


def test_exchanged_colours_are_noticed(painted: Network, asked: CalibrationRequest, tmp_path: Path) -> None:
    swapped = archive(tmp_path, painted_people.painted_pictures(COUNT)[..., ::-1])
    with pytest.raises(CalibrationError, match="blue and red look exchanged"):
        exported(painted, replace(asked, source=swapped), tmp_path / "out", "ov-int8")


def test_an_outlier_picture_is_named_and_moves_only_min_max(painted: Network, tmp_path: Path) -> None:
    """A picture in full light among dark ones: it alone stretches the ranges of all layers."""
    *dark, light = painted_people.painted_pictures(COUNT + 1)
    assert painted.onnx
    contract, graph = painted.contract, network_graph(painted.onnx)
    found = calibration_set(archive(tmp_path, np.stack([*(picture // 3 for picture in dark), light])), contract.input, COUNT + 1, 0)
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


def test_an_interrupted_calibration_leaves_no_bundle(painted: Network, asked: CalibrationRequest, tmp_path: Path) -> None:
    """Stopped at every step it tells, with a cache that stays from one attempt to the next."""
    request = replace(asked, cache=tmp_path / "cache")

    def stop_at(step: int) -> bool:
        told = 0

        def say(_: str) -> None:
            nonlocal told
            told += 1
            if told > step:
                raise KeyboardInterrupt

        try:
            export_bundles(painted, [target_named("ov-int8")], tmp_path / "out", say=say, calibration=request)
        except KeyboardInterrupt:
            return True
        return False

    stopped = 0
    while stop_at(stopped):
        assert not list((tmp_path / "out").glob("*.pose"))
        stopped += 1
    assert stopped >= 5 and len(list((tmp_path / "out").glob("*.pose"))) == 1


def test_a_second_calibration_takes_everything_from_the_cache(
    painted: Network, bundles: dict[str, Export], asked: CalibrationRequest, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in asked.cache.rglob("*")}
    again = exported(painted, asked, tmp_path, "trt-int8")["trt-int8"]
    assert again.bundle.model_path.read_bytes() == bundles["trt-int8"].bundle.model_path.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in asked.cache.rglob("*")} == before


def test_int8_wants_pictures(painted: Network, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give some with --calib"):
        export_bundles(painted, [target_named("ov-int8")], tmp_path)
