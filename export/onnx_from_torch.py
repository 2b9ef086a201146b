"""PyTorch -> ONNX, by way of `torch.export`: one route for our networks, a user's module and a saved exported program."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import ExportError
from edgepose.export.onnx_file import opset_of

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 17
"""The newest that TensorRT 8.5 (JetPack 5.1) reads; OpenVINO and ONNX Runtime have read it for years."""
_TORCH_OPSET = 18  # the oldest that torch.onnx has operators for
_IR_VERSION = 8  # the file format of opset 17's time, which every reader of that opset knows
Batch = int | Literal["dynamic"]


def program_from_module(module: torch.nn.Module, contract: ModelContract, batch: Batch) -> torch.export.ExportedProgram:
    """Traces a module that maps (N, 3, height, width) to (heatmaps, pafs). Raises ExportError."""
    import torch

    size = (contract.input.height, contract.input.width)
    # torch.export takes an axis of 1 for a constant, so a dynamic batch is traced with 2
    example = torch.zeros(2 if batch == "dynamic" else batch, 3, *size)
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if batch == "dynamic" else None
    try:
        with _quiet():
            return torch.export.export(module.eval(), (example,), dynamic_shapes=dynamic)
    except Exception as error:  # torch.export has many unrelated exception types
        raise ExportError(f"torch.export cannot trace the network: {' '.join(str(error).split())[:300]}") from error


def onnx_from_program(program: torch.export.ExportedProgram, contract: ModelContract, opset: int = OPSET) -> onnx.ModelProto:
    """Converts with the contract's tensor names. Raises ExportError.

    torch.onnx writes operator set 18 or newer; an older one is reached by ONNX's own version converter, after the exporter's optimiser
    has folded what that converter does not know (a Pad before a Conv, say).
    """
    import torch

    names = {"input_names": [contract.input.name], "output_names": [contract.output.heatmaps, contract.output.pafs]}
    try:
        with _quiet():
            converted = torch.onnx.export(
                program, opset_version=max(opset, _TORCH_OPSET), dynamo=True, optimize=True, verbose=False, **names
            )
    except Exception as error:  # likewise
        raise ExportError(f"torch.onnx cannot convert the network: {' '.join(str(error).split())[:300]}") from error
    assert converted is not None
    model = _lowered(converted.model_proto, opset) if opset < _TORCH_OPSET else converted.model_proto
    if opset_of(model) != opset:
        raise ExportError(f"torch.onnx wrote operator set {opset_of(model)}, not {opset}: try --opset {_TORCH_OPSET}")
    return model


def _lowered(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    from onnx import shape_inference, version_converter

    try:
        older = version_converter.convert_version(model, opset)
    except (RuntimeError, version_converter.ConvertError, shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise ExportError(f"the network cannot be written with operator set {opset} ({reason}): try --opset {_TORCH_OPSET}") from error
    _drop_left_over(older)
    older.ir_version = min(older.ir_version, _IR_VERSION)
    return older


def _drop_left_over(model: onnx.ModelProto) -> None:
    """The converter leaves an attribute of operator set 18 behind, at its default: no older Reduce (of a squeeze-and-excitation block, say)
    knows it but ReduceSum."""
    for node in model.graph.node:
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
            for attribute in [each for each in node.attribute if each.name == "noop_with_empty_axes" and not each.i]:
                node.attribute.remove(attribute)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporters announce their own deprecations and version conversions; the parity of the result is what we go by."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
