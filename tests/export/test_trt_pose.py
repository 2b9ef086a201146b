"""trt_pose's published networks at their own size, filled by a formula: their maps in ONNX, and TensorRT's own builder on FP16 and INT8."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepose.calibration.equalise import equalised
from edgepose.calibration.graph import network_graph
from edgepose.calibration.quantiser import Quantiser
from edgepose.calibration.ranges import mean_min_max
from edgepose.calibration.statistics import statistics_of
from edgepose.engines.contract import ModelContract
from edgepose.engines.onnxruntime_ import session_from_onnx
from edgepose.engines.preprocess_reference import normalised
from edgepose.engines.skeleton import TRT_POSE18
from edgepose.engines.tensorrt_.build import run_builder
from edgepose.engines.tensorrt_.plan import BuildSettings
from edgepose.export.checkpoint import load_state_dict, load_weights
from edgepose.export.fp16_from_onnx import fp16_from_onnx
from edgepose.export.networks.catalogue import architecture_named
from edgepose.export.onnx_file import load_onnx, save_onnx, simplified
from edgepose.export.onnx_from_torch import onnx_from_program, program_from_module
from edgepose.export.parity import structured_noise

pytestmark = pytest.mark.slow
SIZES = {"resnet18_baseline_att": 224, "densenet121_baseline_att": 256}


@pytest.fixture(scope="session", params=SIZES)
def network(request: pytest.FixtureRequest, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, ModelContract]:
    """(checkpoint's stem, its ONNX, its contract)."""
    stem = f"{request.param}_{SIZES[request.param]}x{SIZES[request.param]}"
    folder = tmp_path_factory.mktemp(stem)
    spec = importlib.util.spec_from_file_location("keys", assets / "checkpoints" / "checkpoint_from_keys.py")
    assert spec and spec.loader
    keys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keys)
    shapes = json.loads((assets / "checkpoints" / f"{stem}.keys.json").read_text())
    torch.save({k: keys.fill(k, tuple(s), "a") for k, s in shapes.items()}, folder / "c.pth")
    state = load_state_dict(folder / "c.pth")
    architecture = architecture_named(request.param)
    contract = architecture.contract(state, None)
    assert (contract.input.height, contract.output.stride, contract.skeleton) == (SIZES[request.param], 4, TRT_POSE18)
    program = program_from_module(load_weights(architecture, state), contract, 1)
    save_onnx(simplified(onnx_from_program(program, contract)), folder / "m.onnx")
    return stem, folder / "m.onnx", contract


def test_the_maps_are_the_original_networks(network: tuple[str, Path, ModelContract], assets: Path) -> None:
    """The .npz holds what the original network computes for the same weights, every fourth row and column."""
    stem, path, contract = network
    x = np.random.default_rng(7).standard_normal((1, 3, contract.input.height, contract.input.width)).astype(np.float32)
    wanted = np.load(assets / "checkpoints" / f"{stem}.npz")
    for name, found in zip(("cmap", "paf"), session_from_onnx(path).run(["heatmaps", "pafs"], {"input": x}), strict=True):
        reference = wanted[name].reshape(found[..., ::4, ::4].shape)
        assert np.abs(found[..., ::4, ::4] - reference).max() / np.abs(reference).max() < 1e-4


@pytest.mark.needs("tensorrt_rtx_bindings")
@pytest.mark.parametrize("network", ["resnet18_baseline_att"], indirect=True)
def test_tensorrt_builds_it_in_fp16(network: tuple[str, Path, ModelContract], tmp_path: Path) -> None:
    _, path, contract = network
    seen = normalised(structured_noise(contract, 1), contract.input).astype(np.float32)
    model, islands = fp16_from_onnx(path, seen, 1e-2)
    save_onnx(model, tmp_path / "model.onnx")
    found = run_builder(tmp_path / "model.onnx", "fp16", BuildSettings(), tmp_path / "x.plan", tmp_path / "x.log", lambda *_: None)
    assert set(found) <= ({"f16", "f32"} if islands else {"f16"}) and found["f16"] > 20


@pytest.mark.needs("tensorrt_rtx_bindings")
def test_tensorrt_builds_it_in_int8(network: tuple[str, Path, ModelContract], tmp_path: Path) -> None:
    """All convolutions but the heads in INT8; transposed convolutions stay in FP16."""
    _, path, contract = network
    raw, pictures = network_graph(path), structured_noise(contract, 2)
    found = statistics_of(path, raw.tensors, contract, 1, pictures, 0)
    model, _ = equalised(load_onnx(path), found.by_tensor(found.magnitudes))
    save_onnx(model, tmp_path / "even.onnx")
    graph = network_graph(tmp_path / "even.onnx")
    statistics = statistics_of(graph.path, graph.tensors, contract, 1, pictures, 0)
    quantiser = Quantiser(graph, contract, 1, statistics.by_tensor(statistics.means), False, True)
    floating = graph.floating(False)
    quantiser.write(mean_min_max(statistics), floating, tmp_path)
    layers = run_builder(tmp_path / "model.onnx", "int8", BuildSettings(), tmp_path / "x.plan", tmp_path / "x.log", lambda *_: None)
    assert layers["i8"] == len(graph.layers) - len(floating) > 20
