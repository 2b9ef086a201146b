"""Half precision inside an ONNX file: chosen nodes in FP16, all others and the network's inputs and outputs in FP32.

Precision lies in the file, not in builder flags, so every TensorRT from 8.5 to the strongly typed 11 computes the same network. ONNX
Runtime's own converter sends what passes between two FP32 nodes through FP16, where it may overflow, and names a cast twice when two of
them read one tensor.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np

from edgepose.engines.errors import ExportError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LARGEST = 65504.0 / 4
"""A tensor that reaches a quarter of FP16's range on the pictures stays in FP32: other pictures may be brighter."""
_FLOATING_INPUTS = {"Resize": (0,), "Upsample": (0,)}
"""Of these kinds only the named inputs follow the node's precision; scales are FP32 always."""
_KINDS = frozenset(
    "Add AveragePool BatchNormalization Clip Concat Conv ConvTranspose DepthToSpace Div Elu Flatten Gemm GlobalAveragePool HardSigmoid"
    " HardSwish Identity LeakyRelu MatMul MaxPool Mul Neg PRelu Pad Relu Reshape Resize Sigmoid Slice Softmax Split Squeeze Sub Tanh"
    " Transpose Unsqueeze Upsample".split()
)
"""What TensorRT and ONNX Runtime compute in FP16; every other kind stays in FP32."""


def half_precision(model: ModelProto, kept: Container[str]) -> ModelProto:
    """A copy whose nodes compute in FP16, but for those named in `kept` and kinds that cannot.

    A tensor between two FP32 nodes stays FP32, between two FP16 nodes FP16; each is cast at most once. Weights of FP16 nodes are stored
    in FP16. Raises ExportError for a network with branches or loops.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    halving = _Halving(model)
    for node in model.graph.node:
        halving.add(node, node.op_type in _KINDS and node.name not in kept)
    return halving.finished()


class _Halving:
    def __init__(self, model: ModelProto) -> None:
        from onnx import TensorProto

        graph = model.graph
        self._model = model
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        infos = [*graph.input, *graph.value_info, *graph.output]
        self._floating = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floating |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        self._half: dict[str, str] = {}
        self._full = {info.name for info in graph.input} | set(self._constants)
        self._nodes: list[NodeProto] = []

    def add(self, node: NodeProto, halved: bool) -> None:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ExportError(f"node {node.name!r} is a {node.op_type}: networks with branches or loops have no FP16 target")
        copy = type(node)()
        copy.CopyFrom(node)
        places = _FLOATING_INPUTS.get(node.op_type, range(len(node.input)))
        for place, name in enumerate(node.input):
            if halved and place in places and name in self._floating:
                copy.input[place] = self._as_half(name)
            elif name:
                self._as_full(name)
        self._nodes.append(copy)
        for place, name in enumerate(node.output):
            if halved and name in self._floating:
                self._half[name] = copy.output[place] = f"{name}_fp16"
            else:
                self._full.add(name)

    def finished(self) -> ModelProto:
        graph = self._model.graph
        for output in graph.output:
            self._as_full(output.name)
        used = {name for node in self._nodes for name in node.input}
        tensors = [tensor for name, tensor in self._constants.items() if name in used]
        for field, values in ((graph.node, self._nodes), (graph.initializer, tensors), (graph.value_info, [])):
            del field[:]
            field.extend(values)
        return self._model

    def _as_half(self, name: str) -> str:
        from onnx import TensorProto, numpy_helper

        if name not in self._half:
            self._half[name] = half = f"{name}_fp16"
            if name in self._constants:
                with np.errstate(over="ignore"):  # what overflows here is seen by whoever compares the maps
                    values = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._constants[half] = numpy_helper.from_array(values, half)
            else:
                self._cast(name, half, TensorProto.FLOAT16)
        return self._half[name]

    def _as_full(self, name: str) -> None:
        from onnx import TensorProto

        if name not in self._full:
            self._full.add(name)
            self._cast(self._half[name], name, TensorProto.FLOAT)

    def _cast(self, source: str, result: str, kind: int) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node("Cast", [source], [result], f"cast_{result}", to=kind))
