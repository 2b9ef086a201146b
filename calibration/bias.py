"""Bias correction: what rounding the weights adds to a layer's results on average is taken from its bias.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, with the mean of each
input channel measured on the calibration pictures. Borders, where padding meets the kernel, are treated like the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.graph import Layer

if TYPE_CHECKING:
    from onnx import ModelProto

_LARGEST, _LARGEST_OF_SEVEN_BITS = 127, 64
"""ONNX Runtime's, for symmetric weights."""


def correct_biases(model: ModelProto, layers: list[Layer], means: Mapping[str, NDArray[np.float64]], seven_bits: bool) -> None:
    """Changes the biases of `layers` (convolutions) in place; a convolution without one gets one. `means` is by tensor, one a channel."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for layer in layers:
        node = nodes[layer.name]
        largest = _LARGEST_OF_SEVEN_BITS if seven_bits else _LARGEST
        shift = _shift(layer.weights.astype(np.float64), means[layer.tensor], largest)
        if len(node.input) > 2 and node.input[2] in constants:
            bias = constants[node.input[2]]
            bias.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(bias) - shift).astype(np.float32), bias.name))
        elif len(node.input) == 2:
            name = f"{layer.name}_bias"
            model.graph.initializer.append(numpy_helper.from_array((-shift).astype(np.float32), name))
            node.input.append(name)


def _shift(weights: NDArray[np.float64], means: NDArray[np.float64], largest: int) -> NDArray[np.float64]:
    """(out,) average change of a convolution's results when (out, in / groups, ...) weights are rounded per output channel."""
    axes = tuple(range(1, weights.ndim))
    step = np.maximum(np.abs(weights).max(axes, keepdims=True), 1e-30) / largest
    rounding = (np.clip(np.round(weights / step), -largest, largest) * step - weights).sum(axes[1:])
    groups = len(means) // weights.shape[1]
    seen = np.repeat(means.reshape(groups, weights.shape[1]), len(weights) // groups, axis=0)
    return np.asarray((rounding * seen).sum(1))
