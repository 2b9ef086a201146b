"""What a network's layers cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.graph import network_graph


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """(1, 4, 6, 8) -> a convolution of stride 2 -> a transposed one of stride 2."""
    weights = {"w": np.ones((5, 4, 3, 3), np.float32), "t": np.ones((5, 3, 4, 4), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["small"], "conv", strides=[2, 2], pads=[1] * 4),
        helper.make_node("ConvTranspose", ["small", "t"], ["y"], "transposed", strides=[2, 2], pads=[1] * 4),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 6, 8]) for n, c in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "n.onnx"))
    return tmp_path / "n.onnx"


def test_a_transposed_convolution_multiplies_once_a_weight_and_cell_of_its_input(network: Path) -> None:
    conv, transposed = network_graph(network).layers
    assert conv.multiplications == 5 * 4 * 9 * 12
    assert transposed.multiplications == 5 * 3 * 16 * 12


def test_a_matrix_product_multiplies_once_a_weight_and_row(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 7, c]) for n, c in (("x", 4), ("y", 5))]
    graph = helper.make_graph([node], "n", ends[:1], ends[1:], [numpy_helper.from_array(np.ones((4, 5), np.float32), "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "n.onnx"))
    (layer,) = network_graph(tmp_path / "n.onnx").layers
    assert layer.multiplications == 7 * 4 * 5
