"""`NetworkGraph`: the layers of an ONNX network that can be quantised, and what each of them reads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import CalibrationError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One convolution or matrix product. `multiplications` are those of one picture; `head` says that it computes an output."""

    name: str
    kind: str
    tensor: str
    weights: NDArray[np.float32]
    multiplications: int
    head: bool


@dataclass(frozen=True, slots=True, eq=False)
class NetworkGraph:
    """`model` has a unique name for every node; `layers` are in the order of computation."""

    path: Path
    model: ModelProto
    layers: tuple[Layer, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the layers read, once each."""
        return tuple(dict.fromkeys(layer.tensor for layer in self.layers))

    def floating(self, quantise_heads: bool) -> frozenset[str]:
        """Layers that stay in floating point from the start: heads, whose INT8 maps would tie, and transposed convolutions."""
        return frozenset(v.name for v in self.layers if (v.head and not quantise_heads) or v.kind == "ConvTranspose")

    def int8_share(self, floating: frozenset[str]) -> float:
        """The part of all multiplications that is left in INT8."""
        whole = sum(layer.multiplications for layer in self.layers)
        return sum(layer.multiplications for layer in self.layers if layer.name not in floating) / whole


def network_graph(path: Path) -> NetworkGraph:
    """Reads an ONNX file. Raises CalibrationError where it has no layer to quantise, or quantisers already."""
    import onnx
    from onnx import numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)), data_prop=True)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise CalibrationError(f"{path}: carries quantisers already: calibrate the floating-point network")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in values}
    heads = _heads(model)
    layers = []
    for node in model.graph.node:
        if node.op_type in WEIGHTED and node.input[1] in constants:
            weights = numpy_helper.to_array(constants[node.input[1]]).astype(np.float32)
            multiplications = weights.size * _uses(node, shapes)
            layers.append(Layer(node.name, node.op_type, node.input[0], weights, multiplications, node.name in heads))
    if not layers:
        raise CalibrationError(f"{path}: no convolution or matrix product with constant weights: nothing to quantise")
    if len({layer.name for layer in layers}) < len(layers):
        raise CalibrationError(f"{path}: two nodes share a name: simplify the model first (pose-export does)")
    return NetworkGraph(path, model, tuple(layers))


def _uses(node: NodeProto, shapes: Mapping[str, list[int]]) -> int:
    """How often each weight is used for one picture: in every cell of the results, or of the input where that is spread out."""
    if node.op_type == "ConvTranspose":
        return math.prod(shapes.get(node.input[0], [])[2:])
    result = shapes.get(node.output[0], [])
    return math.prod(result[1:-1] if node.op_type == "MatMul" else result[2:])


def _heads(model: ModelProto) -> set[str]:
    """Weighted nodes whose results reach an output through no other weighted node."""
    producer = {output: node for node in model.graph.node for output in node.output}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        node: NodeProto | None = producer.get(waiting.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        if node.op_type in WEIGHTED:
            found.add(node.name)
        else:
            waiting.extend(node.input)
    return found


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Tensor -> the nodes that read it."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for tensor in node.input:
            readers[tensor].append(node)
    return readers
