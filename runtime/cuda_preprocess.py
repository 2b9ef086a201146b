"""What the preprocessing kernel (`_native/preprocess.cuh`) is told about one picture and one network."""

from __future__ import annotations

import ctypes

from edgepose.engines.contract import InputContract, Placement
from edgepose.runtime.camera_picture import CameraPicture

_Triple = ctypes.c_float * 3


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
