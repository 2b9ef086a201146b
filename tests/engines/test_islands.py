"""FP32 islands, found by following a file's casts; TensorRT-RTX, which is strongly typed, knows the true types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import painted_people
import pytest

from edgepose.calibration.graph import network_graph
from edgepose.calibration.half import half_precision
from edgepose.calibration.qdq import quantised_onnx
from edgepose.engines.tensorrt_.bindings import TensorRt, import_tensorrt
from edgepose.engines.tensorrt_.islands import islands, layer_types, pin_islands
from edgepose.export.onnx_file import load_onnx, save_onnx

pytestmark = pytest.mark.needs("tensorrt_rtx_bindings")
HEADS = {"conv_heat_out", "conv_paf_out"}


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_people.write_painted_network(tmp_path_factory.mktemp("painted") / "painted.onnx")


@pytest.fixture
def parsed() -> Iterator[Any]:
    """Path -> (TensorRT-RTX, its network)."""
    tensorrt = import_tensorrt()
    trt = tensorrt.module
    kept: list[Any] = []

    def parse(path: Path) -> tuple[TensorRt, Any]:
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        assert parser.parse_from_file(str(path))
        kept.extend((parser, network, builder, logger))
        return tensorrt, network

    yield parse
    while kept:
        kept.pop(0)


def names(layers: list[Any]) -> set[str]:
    return {layer.name for layer in layers}


def true_types(network: Any) -> dict[str, Any]:
    outputs = (network.get_layer(index).get_output(0) for index in range(network.num_layers))
    return {tensor.name: tensor.dtype for tensor in outputs}


def test_islands_of_a_half_precision_file_are_found(painted: Path, parsed: Any, tmp_path: Path) -> None:
    kept = {"conv_c3", "relu_4", "conv_heat_out"}
    tensorrt, network = parsed(save_onnx(half_precision(load_onnx(painted), kept), tmp_path / "m.onnx")[0])
    assert true_types(network).items() <= layer_types(tensorrt, network).items()
    assert names(islands(tensorrt, network)) == kept


@pytest.mark.parametrize(("halved", "wanted"), [(HEADS | {"conv_c3"}, set()), ({"conv_paf_out"}, {"conv_c3", "conv_heat_out"})])
def test_between_quantisers_fp32_is_int8(painted: Path, parsed: Any, tmp_path: Path, halved: set[str], wanted: set[str]) -> None:
    """Only what is neither quantised nor halved is an island."""
    graph = network_graph(painted)
    means = {layer.tensor: np.zeros(layer.weights.shape[1]) for layer in graph.layers}
    model = quantised_onnx(graph, dict.fromkeys(graph.tensors, (-1.0, 1.0)), frozenset(HEADS | {"conv_c3"}), means)
    model = half_precision(model, {node.name for node in model.graph.node} - halved)
    tensorrt, network = parsed(save_onnx(model, tmp_path / "m.onnx")[0])
    assert true_types(network).items() <= layer_types(tensorrt, network).items()
    assert names(islands(tensorrt, network)) == wanted


class WeakLayer:
    """A parsed layer as TensorRT 8 shows it: with a precision that can be set."""

    def __init__(self, layer: Any) -> None:
        self._layer, self.precision, self.output = layer, None, None

    def set_output_type(self, place: int, kind: Any) -> None:
        self.output = (place, kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class WeakNetwork:
    def __init__(self, network: Any) -> None:
        self.layers = [WeakLayer(network.get_layer(index)) for index in range(network.num_layers)]
        self.num_layers, self.get_layer = network.num_layers, self.layers.__getitem__
        self.num_inputs, self.get_input = network.num_inputs, network.get_input


def test_tensorrt_8_is_told_to_keep_them(painted: Path, parsed: Any, tmp_path: Path) -> None:
    tensorrt, network = parsed(save_onnx(half_precision(load_onnx(painted), {"conv_c3"}), tmp_path / "m.onnx")[0])
    trt = tensorrt.module
    flags: list[Any] = []

    class Config:
        set_flag = flags.append

    class Module:
        """TensorRT-RTX's names, and the flag that only weakly typed versions have."""

        class BuilderFlag:
            OBEY_PRECISION_CONSTRAINTS = "obey"

        def __getattr__(self, name: str) -> Any:
            return getattr(trt, name)

    weak = WeakNetwork(network)
    assert pin_islands(TensorRt(Module(), "TensorRT", "8.6"), weak, Config()) == ["conv_c3"]
    pinned = {layer.name: (layer.precision, layer.output) for layer in weak.layers if layer.precision or layer.output}
    assert pinned == {"conv_c3": (trt.float32, (0, trt.float32))} and flags == ["obey"]
