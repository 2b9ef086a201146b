"""`Target`: what a bundle was made for. Its name says the backend and the precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepose.engines.errors import ConfigError
from edgepose.engines.record import did_you_mean

Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class Target:
    """`precision` is that of the weights or, for bf16, of the arithmetic; `comment` is one line for people."""

    name: str
    backend: Literal["onnxruntime", "openvino", "tensorrt"]
    precision: Precision
    comment: str


TARGETS = (
    Target("onnx", "onnxruntime", "fp32", "ONNX in FP32, run by ONNX Runtime on the CPU"),
    Target("ov-fp32", "openvino", "fp32", "OpenVINO IR, weights and arithmetic in FP32"),
    Target("ov-bf16", "openvino", "bf16", "OpenVINO IR, FP32 weights, BF16 arithmetic (OpenVINO's own default where the CPU has it)"),
    Target("ov-fp16", "openvino", "fp16", "OpenVINO IR, weights in FP16; arithmetic in FP32 on a CPU, in FP16 on a GPU"),
    Target("ov-int8", "openvino", "int8", "OpenVINO IR with INT8 quantisers, calibrated by --calib (or from an IR that already has them)"),
    Target("trt-fp32", "tensorrt", "fp32", "ONNX for TensorRT in FP32 (no TF32); depends on no device"),
    Target("trt-fp16", "tensorrt", "fp16", "ONNX for TensorRT in FP16; depends on no device"),
    Target("trt-int8", "tensorrt", "int8", "ONNX for TensorRT with explicit INT8 Q/DQ, calibrated by --calib; depends on no device"),
)


def target_named(name: str) -> Target:
    """Raises ConfigError for an unknown name."""
    for target in TARGETS:
        if target.name == name:
            return target
    known = [t.name for t in TARGETS]
    raise ConfigError(f"target {name!r} is unknown{did_you_mean(name, known)}: available are {', '.join(known)}")
