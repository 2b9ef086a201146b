"""Half precision: which nodes and weights become FP16, and what passes between two FP32 nodes never does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.calibration.half import half_precision
from edgepose.engines.errors import ExportError
from edgepose.engines.onnxruntime_ import session_from_onnx
from edgepose.export.fp16_from_onnx import fp16_from_onnx


@pytest.fixture
def network() -> onnx.ModelProto:
    """x (1, 2, 4, 4) -> a 1x1 convolution (times 1e5) -> two that read it, one halving back -> their sum, resized."""
    weights = {"up": np.full((2, 2, 1, 1), 1e5), "down": np.full((2, 2, 1, 1), 1e-5), "side": np.full((2, 2, 1, 1), 2e-5)}
    nodes = [
        helper.make_node("Conv", ["x", "up"], ["large"], "up"),
        helper.make_node("Conv", ["large", "down"], ["a"], "down"),
        helper.make_node("Conv", ["large", "side"], ["b"], "side"),
        helper.make_node("Add", ["a", "b"], ["sum"], "sum"),
        helper.make_node("Resize", ["sum", "", "scales"], ["y"], "resize", mode="nearest"),
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    sides = [[1, 2, 4, 4], [1, 2, 8, 8]]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("xy", sides, strict=True)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_kept_nodes_pass_what_fp16_cannot_hold(network: onnx.ModelProto) -> None:
    x = np.random.default_rng(0).uniform(1, 2, (1, 2, 4, 4)).astype(np.float32)
    reference = session_from_onnx(network.SerializeToString()).run(["y"], {"x": x})[0]
    whole = session_from_onnx(half_precision(network, ()).SerializeToString()).run(["y"], {"x": x})[0]
    assert not np.isfinite(whole).all()
    half = half_precision(network, {"up", "down", "side"})
    onnx.checker.check_model(half, full_check=True)
    found = session_from_onnx(half.SerializeToString()).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(found, reference, rtol=2e-3)
    kinds = [node.op_type for node in half.graph.node]
    assert kinds == ["Conv", "Conv", "Conv", "Cast", "Cast", "Add", "Resize", "Cast"]


def test_weights_follow_their_nodes_and_scales_stay(network: onnx.ModelProto) -> None:
    half = half_precision(network, {"up"})
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types == {"up": 1, "down_fp16": 10, "side_fp16": 10, "scales": 1}
    assert [output.type.tensor_type.elem_type for output in half.graph.output] == [TensorProto.FLOAT]


def test_the_model_given_is_not_changed(network: onnx.ModelProto) -> None:
    before = network.SerializeToString()
    half_precision(network, ())
    assert network.SerializeToString() == before


def test_a_loop_is_refused(network: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    network.graph.node.append(helper.make_node("Loop", ["", ""], ["z"], "again", body=body))
    with pytest.raises(ExportError, match="'again' is a Loop"):
        half_precision(network, ())


def test_the_picture_that_overflows_decides_wherever_it_stands(network: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(network, str(tmp_path / "n.onnx"))
    black, bright = np.zeros((1, 2, 4, 4), np.float32), np.ones((1, 2, 4, 4), np.float32)
    for seen in ([black, bright], [bright, black], [black, black, bright]):
        _, islands = fp16_from_onnx(tmp_path / "n.onnx", np.concatenate(seen), 1e-2)
        assert islands == ("down", "side", "up")
