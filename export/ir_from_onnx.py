"""ONNX -> OpenVINO IR."""

from __future__ import annotations

from pathlib import Path

from edgepose.engines.errors import ExportError
from edgepose.engines.openvino_ import import_openvino, read_model
from edgepose.engines.target import Precision


def ir_from_onnx(onnx_path: Path, ir_path: Path, precision: Precision) -> list[Path]:
    """Writes `ir_path` (.xml) and its .bin, weights in FP16 where `precision` is fp16 and as integers where it is int8; returns both.

    `onnx_path` may be an IR as well.
    """
    ov = import_openvino()
    model = read_model(onnx_path)
    if precision == "int8":
        # Quantised weights are stored as INT8 instead of FP32 behind quantisers, which computes the same; NNCF saves its models by it too.
        from openvino._offline_transformations import compress_quantize_weights_transformation

        compress_quantize_weights_transformation(model)
    try:
        ov.save_model(model, ir_path, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot write {ir_path.name}: {' '.join(str(error).split())[:200]}") from error
    return [ir_path, ir_path.with_suffix(".bin")]


def is_quantised(ir_path: Path) -> bool:
    """Whether an IR carries INT8 quantisers."""
    return any(op.get_type_name() == "FakeQuantize" for op in read_model(ir_path).get_ops())
