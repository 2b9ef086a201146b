"""`CameraPicture`: where a picture's pixels lie in memory and how their bytes are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import ConfigError, ShapeMismatch


class PixelFormat(IntEnum):
    """How 8-bit pixels are packed; the values are those of the native code.

    BGR and RGB: three bytes a pixel. NV12: a plane of Y, then one of U, V pairs, a pair for 2 x 2 pixels. YUYV: Y0 U Y1 V for two pixels.
    """

    BGR = 0
    RGB = 1
    NV12 = 2
    YUYV = 3


@dataclass(frozen=True, slots=True)
class YuvColours:
    """From YUV to BGR: the luma weights of red and blue (ITU-R BT.601, BT.709), and whether luma runs from 16 to 235 or from 0 to 255."""

    red: float
    blue: float
    full_range: bool

    @property
    def luma(self) -> tuple[float, float]:
        """(offset, scale): a level is (Y - offset) * scale."""
        return (0.0, 1.0) if self.full_range else (16.0, 255 / 219)

    @property
    def chroma(self) -> tuple[float, float, float, float]:
        """What V adds to red, U and V to green, U to blue, per unit of U - 128 or V - 128."""
        scale = 2.0 if self.full_range else 2 * 255 / 224
        green = 1 - self.red - self.blue
        red_v, blue_u = scale * (1 - self.red), scale * (1 - self.blue)
        return red_v, -blue_u * self.blue / green, -red_v * self.red / green, blue_u

    def bgr(self, y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(h, w) each -> (h, w, 3) BGR levels 0-255, not rounded: the slow twin of the native code."""
        (offset, scale), (red_v, green_u, green_v, blue_u) = self.luma, self.chroma
        luma, cb, cr = (y.astype(np.float64) - offset) * scale, u.astype(np.float64) - 128, v.astype(np.float64) - 128
        return np.clip(np.stack([luma + blue_u * cb, luma + green_u * cb + green_v * cr, luma + red_v * cr], -1), 0, 255)


BT601 = YuvColours(0.299, 0.114, False)
BT601_FULL = YuvColours(0.299, 0.114, True)
BT709 = YuvColours(0.2126, 0.0722, False)
"""BT.601 is what USB cameras and JPEG (full range) use, BT.709 what high-definition video uses."""


@dataclass(frozen=True, slots=True)
class CameraPicture:
    """Pixels at an address (of the device or of the host, as the reader needs); memory belongs to whoever made it.

    `size_wh` is the whole picture's; `crop_xywh` the part that is used, by default all of it. `pitch` is the bytes from row to row.
    """

    format: PixelFormat
    size_wh: tuple[int, int]
    pixels: int
    pitch: int
    chroma: int = 0
    chroma_pitch: int = 0
    colours: YuvColours = BT601
    crop_xywh: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        w, h = self.size_wh
        row = {PixelFormat.NV12: w, PixelFormat.YUYV: 4 * ((w + 1) // 2)}.get(self.format, 3 * w)
        if self.pitch < row:
            raise ShapeMismatch(f"{self.format.name} picture {w} x {h} with rows of {self.pitch} bytes: wanted at least {row}")
        if self.format is PixelFormat.NV12 and (not self.chroma or self.chroma_pitch < 2 * ((w + 1) // 2)):
            raise ShapeMismatch(
                f"NV12 picture {w} x {h} with chroma rows of {self.chroma_pitch} bytes at {self.chroma:#x}:"
                f" wanted a plane with rows of at least {2 * ((w + 1) // 2)}"
            )
        x, y, cw, ch = self.crop
        if x < 0 or y < 0 or cw < 1 or ch < 1 or x + cw > w or y + ch > h:
            raise ConfigError(f"crop {cw} x {ch} at ({x}, {y}) does not lie in a picture of {w} x {h}")

    @property
    def crop(self) -> tuple[int, int, int, int]:
        return self.crop_xywh or (0, 0, *self.size_wh)
