"""FP16 for TensorRT: an ONNX file whose tensors are half precision, with islands of FP32 where half precision does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.half import LARGEST, half_precision
from edgepose.engines.errors import ExportError
from edgepose.engines.onnxruntime_ import session_from_onnx
from edgepose.export.divergence import relative_rmse
from edgepose.export.onnx_file import load_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

_MOST_ISLANDS = 0.5


def fp16_from_onnx(path: Path, seen: NDArray[np.float32], tolerance: float) -> tuple[ModelProto, tuple[str, ...]]:
    """The FP16 model, inputs and outputs still FP32, and the names of the nodes that stay in FP32.

    `seen` (n, 3, H, W) is what the network sees. Islands are the nodes that read or write values near FP16's limit, then, while a result
    lies beyond `tolerance` (relative RMSE), the first node whose own result does. Raises ExportError where no node is left to
    blame, or half of them are islands.
    """
    model = load_onnx(path)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    seen = np.resize(seen, (batch, *seen.shape[1:]))
    reference = _tensors(model, seen)
    islands = _near_the_limit(model, reference)
    while True:
        half = half_precision(model, islands)
        found = _tensors(half, seen)
        wrong = [node.name for node in model.graph.node if node.name not in islands and _differs(node.output, reference, found, tolerance)]
        bad = [output.name for output in model.graph.output if not relative_rmse(reference[output.name], found[output.name]) <= tolerance]
        if not bad:
            return half, tuple(sorted(islands))
        islands = islands | set(wrong[:1])
        if not wrong or len(islands) > _MOST_ISLANDS * len(model.graph.node):
            raise ExportError(
                f"output {bad[0]!r} differs from FP32 by more than {tolerance:g} even with {len(islands)} of {len(model.graph.node)}"
                " nodes in FP32: this network does not hold in FP16; export another target"
            )


def _near_the_limit(model: ModelProto, values: dict[str, NDArray[Any]]) -> set[str]:
    large = {name for name, value in values.items() if np.abs(value).max() > LARGEST}
    large |= {tensor.name for tensor in model.graph.initializer if _peak(tensor) > LARGEST}
    return {node.name for node in model.graph.node if large & {*node.input, *node.output}}


def _peak(tensor: Any) -> float:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return 0.0
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))


def _tensors(model: ModelProto, seen: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Every tensor of the model, computed by ONNX Runtime."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = {output.name for output in copy.graph.output}
    names = [name for node in copy.graph.node for name in node.output if name]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    session = session_from_onnx(copy.SerializeToString())
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: seen}), strict=True))


def _differs(names: Any, reference: dict[str, NDArray[Any]], found: dict[str, NDArray[Any]], tolerance: float) -> bool:
    return any(name in found and not relative_rmse(reference[name], found[name]) <= tolerance for name in names if name in reference)
