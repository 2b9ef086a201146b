"""FP16 for TensorRT: an ONNX file whose tensors are half precision, with islands of FP32 where half precision does not hold."""

from __future__ import annotations

from collections.abc import Callable
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
Probe = Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]


def fp16_from_onnx(path: Path, seen: NDArray[np.float32], tolerance: float) -> tuple[ModelProto, tuple[str, ...]]:
    """The FP16 model, inputs and outputs still FP32, and the names of the nodes that stay in FP32.

    `seen` (n, 3, H, W) is what the network sees, all of which must hold. Islands are the nodes that read or write values near FP16's limit,
    then, while a result lies beyond `tolerance` (relative RMSE), the first node whose own result does. Raises ExportError where no node is
    left to blame, or half of them are islands.
    """
    model = load_onnx(path)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    batches = [np.resize(seen[at : at + batch], (batch, *seen.shape[1:])) for at in range(0, len(seen), batch)]
    full = _probe(model)
    islands: set[str] = set().union(*(_near_the_limit(model, full(each)) for each in batches))
    while True:
        half = half_precision(model, islands)
        differing = _differing(full, _probe(half), batches, tolerance)
        wrong = [node.name for node in model.graph.node if node.name not in islands and differing & {*node.output}]
        bad = [output.name for output in model.graph.output if output.name in differing]
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


def _probe(model: ModelProto) -> Probe:
    """Every tensor of the model, computed by ONNX Runtime: which rounds weights to FP16, but on a CPU not what passes between nodes."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = {output.name for output in copy.graph.output}
    names = [name for node in copy.graph.node for name in node.output if name]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    session = session_from_onnx(copy.SerializeToString())
    return lambda seen: dict(zip(names, session.run(names, {session.get_inputs()[0].name: seen}), strict=True))


def _differing(full: Probe, half: Probe, batches: list[NDArray[np.float32]], tolerance: float) -> set[str]:
    """Tensors of both that differ by more than `tolerance` on one of the batches, or are not finite."""
    found: set[str] = set()
    for each in batches:
        wanted, got = full(each), half(each)
        found |= {name for name in wanted.keys() & got.keys() if not relative_rmse(wanted[name], got[name]) <= tolerance}
    return found
