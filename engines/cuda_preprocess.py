"""Preprocessing on the GPU: one kernel (`runtime/_native/preprocess.cuh`) from a camera's pixels to the network's input."""

from __future__ import annotations

import ctypes
import logging

import numpy as np
from numpy.typing import DTypeLike

from edgepose.engines.camera_picture import CameraPicture
from edgepose.engines.contract import InputContract, Placement
from edgepose.engines.cuda import Cuda, Module, Stream
from edgepose.engines.cuda_kernel import compiled_kernel, prebuilt_kernel
from edgepose.engines.errors import InferenceFailed

logger = logging.getLogger(__name__)

_Triple = ctypes.c_float * 3
_BLOCK = (32, 8)
_KERNELS = {"float32": "edgepose_fit_fp32", "float16": "edgepose_fit_fp16"}


class KernelParameters(ctypes.Structure):
    """`PreprocessParameters` of the native code, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("pixels", "chroma")),
        *((name, ctypes.c_int64) for name in ("pitch", "chroma_pitch")),
        *((name, ctypes.c_int32) for name in ("format", "crop_x", "crop_y", "crop_w", "crop_h", "width", "height")),
        *((name, ctypes.c_int32) for name in ("left", "top", "fit_w", "fit_h", "rgb")),
        *((name, ctypes.c_float) for name in ("luma_offset", "luma_scale", "red_v", "green_u", "green_v", "blue_u")),
        *((name, _Triple) for name in ("scale", "bias", "pad")),
    )


def kernel_parameters(picture: CameraPicture, contract: InputContract) -> tuple[KernelParameters, Placement]:
    """The kernel's parameters, and where the cropped picture lies in the network's input."""
    x, y, w, h = picture.crop
    place = contract.place((w, h))
    scale = [1 / std for std in contract.std]
    bias = [-mean / std for mean, std in zip(contract.mean, contract.std, strict=True)]
    pad = [level * s + b for level, s, b in zip(contract.pad_value, scale, bias, strict=True)]
    parameters = KernelParameters(
        picture.pixels,
        picture.chroma,
        picture.pitch,
        picture.chroma_pitch,
        int(picture.format),
        *(x, y, w, h),
        *(contract.width, contract.height),
        *place.offset_xy,
        *place.size_wh,
        int(contract.channels == "RGB"),
        *picture.colours.luma,
        *picture.colours.chroma,
        _Triple(*scale),
        _Triple(*bias),
        _Triple(*pad),
    )
    return parameters, place


class CudaPreprocess:
    """The kernel, loaded for one GPU. Raises BackendUnavailable or EngineLoadError where there is no kernel for it."""

    def __init__(self, cuda: Cuda, compute_capability: str) -> None:
        self._module = _module(cuda, compute_capability)
        self._kernels = {np.dtype(kind): self._module.kernel(name) for kind, name in _KERNELS.items()}

    def launch(self, stream: Stream, parameters: KernelParameters, out: int, dtype: DTypeLike) -> None:
        """Has `stream` write the network's input (3, height, width), float32 or float16, to device address `out`."""
        grid = -(-parameters.width // _BLOCK[0]), -(-parameters.height // _BLOCK[1])
        stream.launch(self._kernels[np.dtype(dtype)], grid, _BLOCK, (parameters, ctypes.c_uint64(out)))


def _module(cuda: Cuda, compute_capability: str) -> Module:
    """The prebuilt kernel where this driver takes it, else one compiled here."""
    if (image := prebuilt_kernel()) is not None:
        try:
            return cuda.module(image)
        except InferenceFailed as error:
            logger.info("the prebuilt kernel does not load (%s): compiling one", error)
    return cuda.module(compiled_kernel(compute_capability))
