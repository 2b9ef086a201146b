"""What TensorRT refuses or misreads in a quantised ONNX file, checked before a bundle carries it.

TensorRT computes symmetric INT8 only. Its parser refuses non-zero zero points and INT32 Q/DQ on biases, clips UINT8 activations to INT8's
range, and TensorRT 8 takes the wrong axis of per-channel scales on a transposed convolution. A pair on an output makes the maps tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepose.engines.errors import ExportError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def check_qdq(model: ModelProto) -> None:
    """Raises ExportError with every rule that is broken."""
    if broken := qdq_rules(model):
        more = f" (and {len(broken) - 3} more)" if len(broken) > 3 else ""
        raise ExportError(f"TensorRT would misread this quantised ONNX: {'; '.join(broken[:3])}{more}: quantise it with pose-export")


def qdq_rules(model: ModelProto) -> list[str]:
    """One sentence a fault; empty for a model that TensorRT reads as it is meant."""
    graph = _Graph(model)
    outputs = {output.name for output in model.graph.output}
    found: list[str] = []
    for node in model.graph.node:
        if node.op_type in _PAIR:
            found += graph.zero_point_faults(node)
            if node.output[0] in outputs:
                found.append(f"{node.op_type} {node.name!r} makes the output {node.output[0]!r}: heads stay in floating point")
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2 and graph.is_dequantised(node.input[2]):
            found.append(f"the bias of {node.name!r} is quantised: TensorRT wants it in floating point")
        if node.op_type == "ConvTranspose" and graph.is_per_channel(node.input[1]):
            found.append(f"transposed convolution {node.name!r} has per-channel scales: TensorRT 8 reads their axis wrongly")
    return found


class _Graph:
    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper

        self._constants: dict[str, Any] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._producer: dict[str, NodeProto] = {output: node for node in model.graph.node for output in node.output}

    def zero_point_faults(self, node: NodeProto) -> list[str]:
        if len(node.input) < 3 or not node.input[2]:
            return [f"{node.op_type} {node.name!r} has no zero point, so it is UINT8: wanted INT8"]
        zero = self._constants.get(node.input[2])
        if zero is None:
            return [f"{node.op_type} {node.name!r} computes its zero point: wanted a constant 0"]
        faults = []
        if zero.dtype != np.int8:
            faults.append(f"{node.op_type} {node.name!r} is {zero.dtype}: wanted int8")
        if np.any(zero):
            faults.append(f"{node.op_type} {node.name!r} has a zero point of {zero.ravel()[np.flatnonzero(zero)[0]]}: wanted 0")
        return faults

    def is_dequantised(self, tensor: str) -> bool:
        return tensor in self._producer and self._producer[tensor].op_type == "DequantizeLinear"

    def is_per_channel(self, tensor: str) -> bool:
        if not self.is_dequantised(tensor):
            return False
        scale = self._constants.get(self._producer[tensor].input[1])
        return scale is not None and scale.size > 1
