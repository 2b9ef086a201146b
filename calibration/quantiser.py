"""`Quantiser`: ranges and floating layers in, an INT8 ONNX file out, and the engine that shows what it computes.

Both INT8 targets come from one graph with explicit Q/DQ pairs. `ov-int8` is its conversion to OpenVINO's IR; in `trt-int8` the layers that
stay in floating point are FP16.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.graph import Layer, NetworkGraph
from edgepose.calibration.half import LARGEST, half_precision
from edgepose.calibration.qdq import quantised_onnx
from edgepose.calibration.ranges import Levels, Ranges
from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Engine
from edgepose.engines.onnxruntime_ import engine_from_onnx
from edgepose.engines.openvino_ import engine_from_ir

_SLOTS = 2
_TWIN = "twin.onnx"
"""The same values in the 8 bits that OpenVINO computes rightly, the weights in 7 where products would saturate."""


@dataclass(frozen=True, slots=True)
class Quantiser:
    """`means` is each tensor's average a channel. `seven_bits` keeps weights within 7 bits, for CPUs whose INT8 products saturate.

    A model is run by OpenVINO as it will run; one `for_tensorrt` by ONNX Runtime, which computes the rounding of every Q/DQ pair as the
    ONNX standard defines it and the layers between them in floating point: what TensorRT will compute, several times slower.
    """

    graph: NetworkGraph
    contract: ModelContract
    batch: int
    means: Mapping[str, NDArray[np.float64]]
    seven_bits: bool
    for_tensorrt: bool

    @property
    def levels(self) -> Levels:
        return Levels.SIGNED if self.for_tensorrt else Levels.ASYMMETRIC

    def write(self, ranges: Ranges, floating: frozenset[str], folder: Path) -> None:
        """Writes `model.onnx`, and for TensorRT also what `open_quick` opens."""
        import onnx

        model = quantised_onnx(self.graph, ranges, floating, self.means, self.seven_bits, self.levels)
        if self.for_tensorrt:
            twin = quantised_onnx(self.graph, ranges, floating, self.means, saturates(), Levels.SHIFTED)
            onnx.save(twin, str(folder / _TWIN))
            halved = {layer.name for layer in self.graph.layers if layer.name in floating and _fits_half(layer, ranges)}
            model = half_precision(model, {node.name for node in model.graph.node} - halved)
        onnx.save(model, str(folder / "model.onnx"))

    def open(self, model: Path) -> Engine:
        """The engine to judge the model by."""
        if self.for_tensorrt:
            return engine_from_onnx(model, self.contract, "CPU", _SLOTS, self.batch, True)
        return engine_from_ir(model, self.contract, "int8", "CPU", _SLOTS, self.batch)

    def open_quick(self, model: Path) -> Engine:
        """For either target OpenVINO in INT8 and FP32: near what both compute, and fast."""
        model = model.with_name(_TWIN) if self.for_tensorrt else model
        return engine_from_ir(model, self.contract, "int8", "CPU", _SLOTS, self.batch, exact=True)


def _fits_half(layer: Layer, ranges: Ranges) -> bool:
    return bool(max(np.abs(layer.weights).max(), *np.abs(ranges[layer.tensor])) < LARGEST)


def saturates() -> bool:
    """Whether this CPU adds products of INT8 pairs in 16 bits: x86 without VNNI or AMX."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True  # not Linux: seven bits cost little, saturation costs people
    return "vnni" not in flags and "amx_int8" not in flags
