"""Every fault that TensorRT would misread is found and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepose.calibration.qdq_rules import check_qdq, qdq_rules
from edgepose.engines.errors import ExportError


def pair(tensor: str, out: str, zero: Any, scale: Any = 0.1, axis: int = 0) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.asarray(scale, np.float32), f"{out}_scale"),
        numpy_helper.from_array(np.asarray(zero), f"{out}_zero"),
    ]
    entries = [f"{out}_scale", f"{out}_zero"]
    return [
        helper.make_node("QuantizeLinear", [tensor, *entries], [f"{out}_q"], f"{out}_q", axis=axis),
        helper.make_node("DequantizeLinear", [f"{out}_q", *entries], [out], f"{out}_dq", axis=axis),
    ], constants


def network(zero: Any, kind: str = "Conv", bias_quantised: bool = False, output_quantised: bool = False, per_channel: bool = False) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    weights = np.ones((2, 2, 1, 1), np.float32)
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(2, np.float32), "b")]
    parts = [
        pair("x", "x_i8", zero),
        pair("w", "w_i8", np.zeros(2, np.int8) if per_channel else np.int8(0), [0.1, 0.1] if per_channel else 0.1),
    ]
    if bias_quantised:
        parts.append(pair("b", "b_i32", np.int32(0)))
    nodes = [n for part, _ in parts for n in part]
    bias = "b_i32" if bias_quantised else "b"
    nodes.append(helper.make_node(kind, ["x_i8", "w_i8", bias], ["conv" if output_quantised else "y"], "layer"))
    if output_quantised:
        parts.append(pair("conv", "y", np.int8(0)))
        nodes += parts[-1][0]
    tensors += [t for _, part in parts for t in part]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, 4, 4]) for n in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], tensors), opset_imports=[helper.make_opsetid("", 17)])


def test_a_sound_graph_has_no_fault() -> None:
    assert qdq_rules(network(np.int8(0))) == []
    check_qdq(network(np.int8(0), per_channel=True))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: network(np.uint8(0)), "is uint8: wanted int8"),
        (lambda: network(np.int8(3)), "zero point of 3: wanted 0"),
        (lambda: network(np.int8(0), bias_quantised=True), "the bias of 'layer' is quantised"),
        (lambda: network(np.int8(0), output_quantised=True), "makes the output 'y'"),
        (lambda: network(np.int8(0), kind="ConvTranspose", per_channel=True), "per-channel scales: TensorRT 8"),
    ],
)
def test_each_fault_is_named(model: Any, told: str) -> None:
    with pytest.raises(ExportError, match=told):
        check_qdq(model())
