"""What an `InputContract` means, in float64 NumPy: slow and obvious, the yardstick for every faster preprocessing.

Resizing is bilinear between pixel centres with clamped edges and no antialiasing, which is what OpenCV's INTER_LINEAR, PyTorch's
`interpolate(align_corners=False)` and a GPU texture unit compute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import InputContract
from edgepose.engines.errors import ShapeMismatch


def network_input(picture: NDArray[np.uint8], contract: InputContract) -> NDArray[np.float64]:
    """(H, W, 3) BGR picture -> (3, height, width) network input."""
    return normalised(fitted(picture, contract), contract)


def fitted(picture: NDArray[np.uint8], contract: InputContract) -> NDArray[np.float64]:
    """(H, W, 3) BGR picture -> (height, width, 3) BGR levels 0-255: resized, placed and padded, not rounded."""
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ShapeMismatch(f"picture of shape {picture.shape}: wanted (height, width, 3)")
    place = contract.place((picture.shape[1], picture.shape[0]))
    (w, h), (left, top) = place.size_wh, place.offset_xy
    canvas = np.empty((contract.height, contract.width, 3))
    canvas[:] = contract.pad_bgr
    canvas[top : top + h, left : left + w] = _resized(picture.astype(np.float64), w, h)
    return canvas


def normalised(levels: NDArray[np.floating] | NDArray[np.uint8], contract: InputContract) -> NDArray[np.float64]:
    """(..., height, width, 3) BGR levels -> (..., 3, height, width): channel order, (x - mean) / std, layout."""
    ordered = levels if contract.channels == "BGR" else levels[..., ::-1]
    return np.moveaxis((ordered - np.asarray(contract.mean)) / np.asarray(contract.std), -1, -3)


def _resized(picture: NDArray[np.float64], w: int, h: int) -> NDArray[np.float64]:
    (y0, y1, fy), (x0, x1, fx) = _taps(picture.shape[0], h), _taps(picture.shape[1], w)
    rows = picture[y0] * (1 - fy)[:, None, None] + picture[y1] * fy[:, None, None]
    return np.asarray(rows[:, x0] * (1 - fx)[:, None] + rows[:, x1] * fx[:, None])


def _taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each target pixel: the two source pixels it lies between and its distance from the first."""
    centre = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    first = np.floor(centre).astype(np.intp)
    return first, np.minimum(first + 1, source - 1), centre - first
