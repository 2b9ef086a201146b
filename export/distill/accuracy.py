"""How well a student finds people, while it is still a PyTorch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from edgepose.calibration.coco import CocoAccuracy, CocoLabels
from edgepose.engines.contract import ModelContract
from edgepose.engines.openvino_ import OpenVinoEngine, compile_model, openvino_core
from edgepose.export.onnx_from_torch import onnx_from_program, program_from_module
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.sources import picture_from_file

if TYPE_CHECKING:
    import openvino as ov

_SLOTS = 2


def coco_accuracy(module: nn.Module, contract: ModelContract, labels: CocoLabels) -> CocoAccuracy:
    """In FP32 on the CPU, at the contract's size. Raises BackendUnavailable or EngineLoadError."""
    compiled, execution = compile_model(model_from_module(module, contract, 1), contract, "fp32", "CPU", _SLOTS, 1)
    engine = OpenVinoEngine(compiled, contract, execution, _SLOTS, 1)
    try:
        pictures = ((picture_from_file(path), image) for image, path in labels.pictures.items())
        poses = dict(PoseEstimator(engine).estimate_all(pictures))
    finally:
        engine.close()
    return labels.evaluation(poses, contract.skeleton).accuracy


def model_from_module(module: nn.Module, contract: ModelContract, count: int) -> ov.Model:
    """An OpenVINO model of a module that returns (heatmaps, pafs), for `count` pictures of the contract's size. Raises ExportError."""
    program = program_from_module(module, contract, count)
    return openvino_core().read_model(onnx_from_program(program, contract).SerializeToString())
