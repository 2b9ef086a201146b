"""FP32 islands for TensorRT 8, whose networks are weakly typed.

Its FP16 flag lets it compute any layer in half precision, whatever the file says, so layers that the file keeps in FP32 because half
precision cannot hold them have to be pinned.
"""

from __future__ import annotations

from typing import Any

from edgepose.engines.tensorrt_.bindings import TensorRt

_WEIGHTED = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY")
_CASTS = ("CAST", "IDENTITY")
_WITHOUT_ARITHMETIC = ("CONSTANT", "SHUFFLE", "QUANTIZE", "DEQUANTIZE", "SHAPE", *_CASTS)


def pin_islands(tensorrt: TensorRt, network: Any, config: Any) -> list[str]:
    """Has TensorRT compute in FP32 what the file holds in FP32, and returns those layers' names."""
    trt = tensorrt.module
    found = islands(tensorrt, network)
    for layer in found:
        layer.precision = trt.float32
        layer.set_output_type(0, trt.float32)
    if found:
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    return [layer.name for layer in found]


def islands(tensorrt: TensorRt, network: Any) -> list[Any]:
    """Layers of an FP16 or INT8 file that it keeps in FP32.

    Between quantisers FP32 is only how the file writes INT8, which TensorRT fuses; there, islands are weighted layers that no quantiser
    feeds.
    """
    trt = tensorrt.module
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    types = layer_types(tensorrt, network)
    producer = {layer.get_output(0).name: layer for layer in layers}
    quantised = any(_is(trt, layer, ("QUANTIZE",)) for layer in layers)

    def is_island(layer: Any) -> bool:
        if not quantised:
            return not _is(trt, layer, _WITHOUT_ARITHMETIC)
        source = producer.get(layer.get_input(0).name) if layer.num_inputs else None
        return _is(trt, layer, _WEIGHTED) and not (source is not None and _is(trt, source, ("DEQUANTIZE",)))

    return [layer for layer in layers if types[layer.get_output(0).name] == trt.float32 and is_island(layer)]


def layer_types(tensorrt: TensorRt, network: Any) -> dict[str, Any]:
    """Tensor -> the type that the file gives it, by following its casts: a weakly typed network calls every tensor FP32."""
    trt = tensorrt.module
    types = {network.get_input(index).name: trt.float32 for index in range(network.num_inputs)}
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        name = layer.get_output(0).name
        if _is(trt, layer, _CASTS):
            types[name] = layer.get_output_type(0)
        elif _is(trt, layer, ("CONSTANT",)):
            layer.__class__ = trt.IConstantLayer  # get_layer gives the base class, which has no weights
            types[name] = getattr(trt, str(layer.weights.dtype))  # NumPy's names are TensorRT's
        elif _is(trt, layer, ("QUANTIZE",)):
            types[name] = trt.int8
        elif _is(trt, layer, ("DEQUANTIZE",)):
            types[name] = trt.float32
        else:
            types[name] = types[layer.get_input(0).name]
    return types


def _is(trt: Any, layer: Any, kinds: tuple[str, ...]) -> bool:
    return any(hasattr(trt.LayerType, kind) and layer.type == getattr(trt.LayerType, kind) for kind in kinds)
