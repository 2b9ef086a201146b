"""INT8 as an ONNX file with explicit Q/DQ pairs, by ONNX Runtime's quantiser with TensorRT's settings; OpenVINO reads it too.

Weights per output channel with zero points of 0 and kept as floating point in front of their own Q/DQ, biases in floating point, and pairs
only in front of weighted layers: so a convolution fuses with its ReLU, and a residual sum gets its skipped input in INT8 and the other from
the convolution it fuses with (TensorRT developer guide, "Q/DQ placement recommendations"). The file depends on no device.

TensorRT knows signed INT8 with a zero point of 0 only, so a tensor after a ReLU uses half of its levels. OpenVINO also computes UINT8 by
INT8, at the same speed: for it every tensor has all levels between its lowest and highest value, which halves the rounding of most
activations. It must not be given signed INT8: on CPUs with VNNI and without AMX, OpenVINO 2026.4.1 rounds a concatenation in signed INT8 to
whole numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.bias import correct_biases
from edgepose.calibration.graph import WEIGHTED, NetworkGraph
from edgepose.calibration.qdq_rules import check_qdq
from edgepose.calibration.ranges import Levels, Range, Ranges, step, zero_point
from edgepose.engines.errors import BackendUnavailable

if TYPE_CHECKING:
    from onnx import ModelProto

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
}


def quantised_onnx(
    graph: NetworkGraph,
    ranges: Ranges,
    floating: frozenset[str],
    means: Mapping[str, NDArray[np.float64]],
    seven_bits: bool = False,
    levels: Levels = Levels.SIGNED,
) -> ModelProto:
    """`graph`'s model with Q/DQ pairs in front of every layer that is not in `floating`, its bias corrected by the input's `means`.

    `seven_bits` halves the range of the weights' levels. Raises ExportError, see `qdq_rules`, for SIGNED `levels`.
    """
    import onnx

    try:
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
        from onnxruntime.quantization.calibrate import TensorsData  # where 1.20 to 1.31 all have it
    except ImportError as error:
        raise BackendUnavailable("ONNX Runtime is not installed: pip install 'edgepose[calibration]'") from error
    copy = onnx.ModelProto()
    copy.CopyFrom(graph.model)
    layers = [layer for layer in graph.layers if layer.name not in floating]
    names = [layer.name for layer in layers]
    correct_biases(copy, [layer for layer in layers if layer.kind == "Conv"], means, seven_bits)
    overrides = {} if levels is Levels.SIGNED else {layer.tensor: [_unsigned(ranges[layer.tensor], levels)] for layer in layers}
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantiser = QDQQuantizer(
        copy,
        True,
        seven_bits,
        QuantType.QInt8,
        QuantType.QInt8,
        TensorsData(CalibrationMethod.MinMax, limits),
        names,
        [],
        list(WEIGHTED),
        {**_OPTIONS, "TensorQuantOverrides": overrides},
    )
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)  # ONNX Runtime's quantiser advises on the root logger
    try:
        quantiser.quantize_model()
    finally:
        root.setLevel(before)
    quantiser.model.topological_sort()
    model: ModelProto = quantiser.model.model
    if levels is Levels.SIGNED:
        check_qdq(model)
    return model


def _unsigned(limits: Range, levels: Levels) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType

    scale, zero = np.array(step(limits, levels), np.float32), np.array(zero_point(limits, levels), np.uint8)
    return {"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero}
