"""`Teacher`: a trained network that says what is on a picture. OpenVINO runs it on the CPU; on a GPU it is a PyTorch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepose.engines.bundle import open_bundle
from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import ConfigError, EngineLoadError, ShapeMismatch
from edgepose.engines.openvino_ import compile_model, computes_bf16, read_model
from edgepose.engines.target import Precision
from edgepose.export.checkpoint import architecture_of, load_state_dict, load_weights
from edgepose.export.distill.accuracy import model_from_module
from edgepose.export.distill.features import bottlenecks
from edgepose.export.networks.catalogue import Architecture

if TYPE_CHECKING:
    import openvino as ov

Pictures = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher sees in N pictures, in float16 so that thousands of them fit into memory: heatmaps and PAFs (N, channels, h, w), and
    inner features, (N, channels, h, w) each: those at half of its work and those before its outputs part, if it has them."""

    maps: Tensor
    features: tuple[Tensor, ...]


class Teacher(Protocol):
    """For one thread; opened for a number and a size of pictures."""

    @property
    def contract(self) -> ModelContract: ...

    @property
    def feature_channels(self) -> tuple[int, ...]: ...

    @property
    def description(self) -> str:
        """What runs where, for the log."""

    def teach(self, pictures: Pictures) -> Lesson:
        """(N, side, side, 3) BGR levels."""


def open_teacher(path: Path, count: int, side: int, device: torch.device) -> Teacher:
    """A bundle (a folder), or a checkpoint of one of our architectures; for batches of `count` square pictures of `side` pixels.

    A checkpoint runs in PyTorch on a GPU, everything else in OpenVINO on the CPU, where a bundle in INT8 is the fastest by far.
    Raises ConfigError, CheckpointError, BundleCorrupt, EngineLoadError, ShapeMismatch or BackendUnavailable.
    """
    if path.is_dir():
        bundle = open_bundle(path)
        model = read_model(bundle.model_path)
        return _openvino_teacher(model, bundle.contract.resized(side, side), bundle.target.precision, count)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or bundle: wanted a bundle made by pose-export, or a checkpoint (.pth)")
    state = load_state_dict(path)
    architecture = architecture_of(state)
    module = load_weights(architecture, state)
    if side % architecture.size_multiple:
        raise ConfigError(f"{path}: {architecture.name} wants pictures in multiples of {architecture.size_multiple}: --crop {side} is none")
    contract = _usual_contract(architecture, state, path).resized(side, side)
    if device.type != "cpu":
        return TorchTeacher(module, contract, device)
    precision: Precision = "bf16" if computes_bf16("CPU") else "fp32"
    return _openvino_teacher(model_from_module(module, contract, count), contract, precision, count)


def _usual_contract(architecture: Architecture, state: Mapping[str, Tensor], path: Path) -> ModelContract:
    try:
        return architecture.contract(state, None)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}: a teacher of another skeleton than usual is exported first; give its bundle") from error


class OpenVinoTeacher:
    """A compiled model whose outputs are followed by its features."""

    def __init__(self, compiled: ov.CompiledModel, contract: ModelContract, features: int, description: str) -> None:
        self.contract, self.description = contract, description
        self._request = compiled.create_infer_request()
        self._features = features
        self._maps = [contract.output.heatmaps, contract.output.pafs]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(tensor.shape[1] for tensor in self._feature_tensors())

    def teach(self, pictures: Pictures) -> Lesson:
        self._request.infer([pictures], share_inputs=True)
        # In NumPy: a second thread with PyTorch's own threads would make those of the student sleep instead of wait, at half the speed.
        maps = np.concatenate([self._request.get_tensor(name).data for name in self._maps], 1).astype(np.float16)
        features = [tensor.data.astype(np.float16) for tensor in self._feature_tensors()]
        return Lesson(torch.from_numpy(maps), tuple(map(torch.from_numpy, features)))

    def _feature_tensors(self) -> list[Any]:
        last = len(self._request.output_tensors)
        return [self._request.get_output_tensor(place) for place in range(last - self._features, last)]


class TorchTeacher:
    """A PyTorch module on a GPU; a network that offers `with_features` gives them."""

    def __init__(self, module: nn.Module, contract: ModelContract, device: torch.device) -> None:
        self.contract, self._device = contract, device
        self._module = module.to(device, memory_format=torch.channels_last)
        self._run = getattr(module, "with_features", None) or (lambda x: (*module(x), ()))
        self.description = f"PyTorch {torch.__version__} on {device}"
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (contract.input.mean, contract.input.std))
        self._mean, self._std = mean, std

    @property
    def feature_channels(self) -> tuple[int, ...]:
        side = self.contract.input.height
        features = self.teach(np.zeros((1, side, side, 3), np.uint8)).features
        return tuple(tensor.shape[1] for tensor in features)

    def teach(self, pictures: Pictures) -> Lesson:
        x = torch.from_numpy(pictures).to(self._device).permute(0, 3, 1, 2).float()
        if self.contract.input.channels == "RGB":
            x = x.flip(1)
        x = ((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(self._device.type, dtype=torch.bfloat16):
            heatmaps, pafs, features = self._run(x)
        middle_and_last = features[-2:]  # our own family gives a third, of what is near by
        return Lesson(torch.cat([heatmaps, pafs], 1).half(), tuple(f.half() for f in middle_and_last))


def _openvino_teacher(model: ov.Model, contract: ModelContract, precision: Precision, count: int) -> OpenVinoTeacher:
    shape = [count, 3, contract.input.height, contract.input.width]
    try:
        model.reshape(shape)
    except RuntimeError as error:
        raise EngineLoadError(f"the teacher cannot be reshaped to {shape}: give its checkpoint, or an export at this size") from error
    features = bottlenecks(model, contract.map_hw)
    if features:
        model.add_outputs(list(features))
    try:
        compiled, execution = compile_model(model, contract, precision, "CPU", 1, count)
    except ShapeMismatch as error:
        raise ShapeMismatch(
            f"the teacher, given {contract.input.width} x {contract.input.height}: {error}, or give another --crop"
        ) from error
    return OpenVinoTeacher(compiled, contract, len(features), str(execution))
