"""Host preprocessing: a picture of any size into a slot's input. Twin: `edgepose.engines.preprocess_reference.fitted`."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import InputContract, Placement
from edgepose.engines.errors import ShapeMismatch


def fit_into(target: NDArray[np.uint8], picture: NDArray[np.uint8], contract: InputContract) -> Placement:
    """Resizes and pads a (H, W, 3) BGR picture into `target` (height, width, 3), in place, and says where it lies.

    At most one level from the float64 reference (OpenCV's fixed-point bilinear weights and rounding). Raises ShapeMismatch.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeMismatch(f"picture of shape {picture.shape} and type {picture.dtype}: wanted (height, width, 3) of uint8")
    place = contract.place((picture.shape[1], picture.shape[0]))
    (w, h), (left, top) = place.size_wh, place.offset_xy
    cv2.resize(picture, (w, h), dst=target[top : top + h, left : left + w], interpolation=cv2.INTER_LINEAR)
    pad = contract.pad_bgr
    target[:top], target[top + h :] = pad, pad
    target[top : top + h, :left], target[top : top + h, left + w :] = pad, pad
    return place
