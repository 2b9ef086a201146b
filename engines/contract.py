"""What a pose network takes and gives: `ModelContract`, made of `InputContract`, `OutputContract` and a `Skeleton`.

Coordinates, here and everywhere: continuous, x to the right and y down, the origin at the outer corner of the first pixel, so that
pixel (row i, column j) has its centre at (j + 0.5, i + 0.5). A map cell likewise, times the stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgepose.engines.errors import ConfigError
from edgepose.engines.record import Record, read_json
from edgepose.engines.skeleton import Skeleton, skeleton_from_json, skeleton_named

Level = Annotated[int, Field(ge=0, le=255)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Fit(str, Enum):
    """How a picture of another shape is brought to the network's size."""

    STRETCH = "stretch"
    LETTERBOX = "letterbox"
    PAD_RIGHT_BOTTOM = "pad_right_bottom"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies inside the network's input: scaled to `size_wh` pixels with its upper left corner at `offset_xy`.

    The scale is size / picture size on each axis, after the size was rounded to whole pixels, so that going there and back is exact.
    """

    picture_wh: tuple[int, int]
    size_wh: tuple[int, int]
    offset_xy: tuple[int, int]

    @property
    def scale_xy(self) -> NDArray[np.float64]:
        return np.divide(self.size_wh, self.picture_wh, dtype=np.float64)

    def network_from_picture(self, xy_px: NDArray[Any]) -> NDArray[np.float64]:
        """(..., 2) picture pixels -> (..., 2) network input pixels."""
        return np.asarray(xy_px * self.scale_xy + self.offset_xy, dtype=np.float64)

    def picture_from_network(self, xy_px: NDArray[Any]) -> NDArray[np.float64]:
        """(..., 2) network input pixels -> (..., 2) picture pixels."""
        return np.asarray((xy_px - np.asarray(self.offset_xy)) / self.scale_xy, dtype=np.float64)


class InputContract(Record):
    """What stands between a picture and the network's input tensor of shape (N, 3, height, width).

    `mean`, `std` and `pad_value` are in 0-255 units and in the network's own channel order; the network sees (x - mean) / std.
    """

    name: str
    height: Positive
    width: Positive
    channels: Literal["BGR", "RGB"]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    fit: Fit
    pad_value: tuple[Level, Level, Level] = (0, 0, 0)

    @property
    def pad_bgr(self) -> tuple[int, int, int]:
        b, g, r = self.pad_value if self.channels == "BGR" else self.pad_value[::-1]
        return b, g, r

    def place(self, picture_wh: tuple[int, int]) -> Placement:
        """Where a picture of this size goes under this contract's fit. Raises ConfigError for an empty picture."""
        w, h = picture_wh
        if w < 1 or h < 1:
            raise ConfigError(f"picture of {w} x {h} pixels: wanted at least one")
        if self.fit is Fit.STRETCH:
            return Placement(picture_wh, (self.width, self.height), (0, 0))
        scale = min(self.width / w, self.height / h)
        size = min(self.width, max(1, round(w * scale))), min(self.height, max(1, round(h * scale)))
        margin = (self.width - size[0], self.height - size[1])
        offset = (margin[0] // 2, margin[1] // 2) if self.fit is Fit.LETTERBOX else (0, 0)
        return Placement(picture_wh, size, offset)


class OutputContract(Record):
    """Names and shapes of the two outputs: confidence maps (N, heatmap_channels, h, w) and PAFs (N, paf_channels, h, w).

    h and w are the input's divided by `stride`. With `background` the last heatmap channel is the background and is not a keypoint.
    """

    heatmaps: str
    pafs: str
    heatmap_channels: Positive
    paf_channels: Positive
    stride: Positive
    background: bool


class ModelContract(Record):
    """Everything a runtime must know of a network besides its weights."""

    input: InputContract
    output: OutputContract
    skeleton: Skeleton

    @model_validator(mode="after")
    def _consistent(self) -> ModelContract:
        keypoints, output = len(self.skeleton.keypoints), self.output
        names = (self.input.name, output.heatmaps, output.pafs)
        if len({*names}) != len(names) or not all(name and name.isprintable() for name in names):
            raise ValueError(f"input and outputs are called {', '.join(map(repr, names))}: wanted three different names")
        if output.heatmap_channels != keypoints + output.background:
            with_background = " + background" if output.background else ""
            raise ValueError(f"{output.heatmap_channels} heatmaps for a skeleton of {keypoints} keypoints{with_background}")
        if output.paf_channels < self.skeleton.paf_channels:
            raise ValueError(f"{output.paf_channels} PAF channels, but the skeleton's limbs need {self.skeleton.paf_channels}")
        if self.input.height % output.stride or self.input.width % output.stride:
            raise ValueError(f"input {self.input.height}x{self.input.width} is not a multiple of the stride {output.stride}")
        return self

    @property
    def map_hw(self) -> tuple[int, int]:
        return self.input.height // self.output.stride, self.input.width // self.output.stride

    def resized(self, height: int, width: int) -> ModelContract:
        """The same network at another input size. Raises ConfigError where the stride does not divide it."""
        data = self.model_dump()
        data["input"] |= {"height": height, "width": width}
        return ModelContract.parse(data, "input size")


def contract_from_json(path: Path) -> ModelContract:
    """Reads a contract file; its `skeleton` is an object, a built-in name, or a JSON file beside it. Raises ConfigError.

    A std below 1, which makes of 0-255 a range that no network is trained with, is an error: it was written in 0-1 units.
    """
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("skeleton"), str):
        named = data["skeleton"]
        beside = path.parent / named
        skeleton = skeleton_from_json(beside) if named.endswith(".json") else skeleton_named(named)
        data = {**data, "skeleton": skeleton.model_dump()}
    contract = ModelContract.parse(data, str(path))
    if min(contract.input.std) < 1:
        shown = ", ".join(f"{level:g}" for level in contract.input.std)
        raise ConfigError(f"{path}: input.std of {shown}: wanted mean and std in 0-255 units, in which a std of 0.229 is 58.395")
    return contract
