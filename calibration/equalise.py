"""Cross-layer equalisation: the same network, its channels rescaled so that one INT8 scale a tensor serves all of them.

A tensor whose channels differ a hundredfold loses the small ones to rounding: depthwise networks, and heatmaps concatenated with features,
die of it. Where a tensor lies between weighted layers, each channel may be divided by a factor in the layers that make it and multiplied in
those that read it; ReLU, pooling and resizing commute with a positive factor. The result computes the same maps up to float rounding.

After M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), with factors from the channels'
measured magnitudes as in G. Xiao et al., "SmoothQuant" (ICML 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.graph import consumers

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_COMMUTING = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Identity", "Dropout"})
_STRONGEST = 256.0
"""No channel is scaled by more, so that a channel that was silent on the calibration pictures stays finite on others."""
_WORTH_A_NODE = 4.0
"""How many times the largest channel's magnitude is the median's where an explicit product pays."""
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Origin:
    """The weighted node that makes channels `start` to `stop` of a tensor, or None where they cannot be rescaled."""

    node: NodeProto | None
    start: int
    stop: int


def equalised(model: ModelProto, magnitudes: Mapping[str, Vector]) -> tuple[ModelProto, int]:
    """A rescaled copy of the model and how many tensors were rescaled.

    `magnitudes` holds, for tensors that weighted layers read, each channel's usual largest magnitude.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    network = _Network(copy)
    changed = sum(network.equalise(tensor, magnitude) for tensor, magnitude in magnitudes.items())
    network.store()
    return copy, changed


class _Network:
    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper

        self._model = model
        self._readers = consumers(model)
        self._producer = {output: node for node in model.graph.node for output in node.output}
        self._outputs = {output.name for output in model.graph.output}
        self._constants = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
        self._touched: set[str] = set()

    def equalise(self, tensor: str, magnitude: Vector) -> bool:
        """Rescales one tensor's channels, where its makers and readers allow it."""
        readers = self._readers[tensor]
        if tensor in self._outputs or not all(self._reads_channels(node, tensor, len(magnitude)) for node in readers):
            return False
        if not magnitude.any() or not all(self._constants[node.input[1]].any() for node in readers):
            return False  # dead: nothing to compare its channels by
        origins = self._origins(tensor, len(magnitude))
        if origins is None:
            return False
        if all(origin.node is None for origin in origins):
            return self._insert(tensor, readers, magnitude)
        factor = self._factors(readers, origins, magnitude)
        for origin in origins:
            if origin.node is not None:
                self._scale_made(origin.node, 1 / factor[origin.start : origin.stop])
        for node in readers:
            self._scale_read(node, factor)
        return True

    def _insert(self, tensor: str, readers: list[NodeProto], magnitude: Vector) -> bool:
        """An explicit product where no layer can take the factor, behind an ELU or a ReLU6 say, and the channels differ much."""
        from onnx import helper

        if tensor not in self._producer or magnitude.max() < _WORTH_A_NODE * np.median(magnitude):
            return False
        factor = self._factors(readers, [_Origin(self._producer[tensor], 0, len(magnitude))], magnitude)
        name = f"{tensor}_equalised"
        rank = self._constants[readers[0].input[1]].ndim
        self._constants[f"{name}_factor"] = (1 / factor).reshape(1, -1, *[1] * (rank - 2))
        self._touched.add(f"{name}_factor")
        self._model.graph.initializer.add().name = f"{name}_factor"
        nodes = list(self._model.graph.node)
        place = nodes.index(self._producer[tensor]) + 1
        self._model.graph.node.insert(place, helper.make_node("Mul", [tensor, f"{name}_factor"], [name], name))
        for node in readers:
            node.input[0] = name
            self._scale_read(node, factor)
        return True

    def store(self) -> None:
        """Writes the changed weights back."""
        from onnx import numpy_helper

        for tensor in self._model.graph.initializer:
            if tensor.name in self._touched:
                tensor.CopyFrom(numpy_helper.from_array(self._constants[tensor.name].astype(np.float32), tensor.name))

    def _factors(self, readers: list[NodeProto], origins: list[_Origin], magnitude: Vector) -> Vector:
        """What each channel is divided by, largest 1.

        A depthwise reader has a weight scale for each channel, so the activation takes all of the difference; a dense one shares its
        scales, so activation and weights take the square root each. Channels that cannot be rescaled keep 1, and the others follow them.
        """
        usual = np.maximum(magnitude, magnitude.max() / _STRONGEST)
        if all(_is_depthwise(node, self._constants) for node in readers):
            factor = usual
        else:
            dense = [node for node in readers if not _is_depthwise(node, self._constants)]
            weights = np.max([_largest_by_input(self._constants[node.input[1]]) for node in dense], axis=0)
            factor = np.sqrt(usual / np.maximum(weights, weights.max() / _STRONGEST))
        fixed = np.zeros(len(factor), bool)
        for origin in origins:
            if origin.node is None:
                fixed[origin.start : origin.stop] = True
        factor = factor / (factor[fixed].max() if fixed.any() else factor.max())
        return np.where(fixed, 1.0, np.clip(factor, 1 / _STRONGEST, _STRONGEST))

    def _origins(self, tensor: str, channels: int, start: int = 0) -> list[_Origin] | None:
        """Who makes the channels; None where their numbers cannot be told."""
        node = self._producer.get(tensor)
        if node is None:
            return [_Origin(None, start, start + channels)]
        if node.op_type == "Conv" and node.input[1] in self._constants and self._own(node):
            return [_Origin(node, start, start + channels)] if self._constants[node.input[1]].shape[0] == channels else None
        if node.op_type in _COMMUTING and self._is_only_reader(node, node.input[0]):
            return self._origins(node.input[0], channels, start)
        if node.op_type == "Concat" and node.attribute[0].i == 1:
            return self._concatenated(node, channels, start)
        return [_Origin(None, start, start + channels)]

    def _concatenated(self, node: NodeProto, channels: int, start: int) -> list[_Origin] | None:
        found: list[_Origin] = []
        at = start
        for branch in node.input:
            size = self._channels(branch)
            if size is None:
                return None
            own = self._origins(branch, size, at) if self._is_only_reader(node, branch) else [_Origin(None, at, at + size)]
            if own is None:
                return None
            found += own
            at += size
        return found if at - start == channels else None

    def _channels(self, tensor: str) -> int | None:
        """Of a tensor, by the convolution it comes from or by its stored shape."""
        for info in self._model.graph.value_info:
            if info.name == tensor:
                return info.type.tensor_type.shape.dim[1].dim_value or None
        return None

    def _is_only_reader(self, node: NodeProto, tensor: str) -> bool:
        return len(self._readers[tensor]) == 1 and self._readers[tensor][0] is node and tensor not in self._outputs

    def _own(self, node: NodeProto) -> bool:
        """Whether nobody else uses the node's weights."""
        return all(len(self._readers[name]) == 1 for name in node.input[1:] if name)

    def _reads_channels(self, node: NodeProto, tensor: str, channels: int) -> bool:
        if node.op_type != "Conv" or node.input[0] != tensor or node.input[1] not in self._constants or not self._own(node):
            return False
        shape = self._constants[node.input[1]].shape
        return (shape[1] == channels and _groups(node) == 1) or (_is_depthwise(node, self._constants) and shape[0] == channels)

    def _scale_made(self, node: NodeProto, factor: Vector) -> None:
        for name in node.input[1:3]:
            if name:
                value = self._constants[name]
                self._constants[name] = value * factor.reshape(-1, *[1] * (value.ndim - 1))
                self._touched.add(name)

    def _scale_read(self, node: NodeProto, factor: Vector) -> None:
        name = node.input[1]
        value = self._constants[name]
        shape = (-1, *[1] * (value.ndim - 1)) if _is_depthwise(node, self._constants) else (1, -1, *[1] * (value.ndim - 2))
        self._constants[name] = value * factor.reshape(shape)
        self._touched.add(name)


def _largest_by_input(weights: NDArray[np.float64]) -> Vector:
    return np.asarray(np.abs(weights).max(axis=(0, *range(2, weights.ndim))))


def _groups(node: NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _is_depthwise(node: NodeProto, constants: Mapping[str, NDArray[np.float64]]) -> bool:
    shape = constants[node.input[1]].shape
    return bool(_groups(node) == shape[0] > 1 and shape[1] == 1)
