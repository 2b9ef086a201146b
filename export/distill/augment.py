"""Random collages of crops, and what a camera may do to them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgepose.engines.skeleton import Skeleton

Picture = NDArray[np.uint8]

GREY = 128
_USUAL_SIDE = 320.0
"""Zoom 1 shows a picture with its longest side at so many pixels."""
_ZOOM = (0.3, 2.5)
_WIDER = (0.89, 1.46)
"""Training sets are often stretched to squares, which makes people thin: more crops are widened than narrowed."""
_ROTATION_DEG = 14.0
_BORDERED = 0.3
_GREY_PICTURES = 0.08
_NOISE_LEVELS = 10.0
_CUT = 0.5
"""How often a training picture is cut in two, and then what came of it again: 1, 2, 3, 4 panels in 2, 3, 2 and 1 of 8."""
_CUT_AT = (0.35, 0.65)
_CUT_STEP = 16
"""Pixels, a multiple of every map's stride: a cell belongs to one panel."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^A-Za-z]+")
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"), ("l", "r"), ("L", "R"))
_OTHER_SIDE = dict(_SIDES) | {right: left for left, right in _SIDES}

Panel = tuple[slice, slice]
"""Rows and columns of a training picture that show one crop."""


@dataclass(frozen=True, slots=True)
class View:
    """How a crop looks at its picture: `matrix` (2, 3) takes picture pixels to crop pixels, corner-based; mirrored if its determinant is
    negative. `tiled` repeats the picture beyond its borders, so that no part of the crop is empty; else grey is there."""

    matrix: NDArray[np.float64]
    tiled: bool

    def on_crop(self, people: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
        """(P, K, 3) in picture pixels -> in crop pixels; in a mirror, right becomes left."""
        moved = people.copy()
        moved[..., :2] = people[..., :2] @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved[:, mirrored_order(skeleton)] if np.linalg.det(self.matrix[:, :2]) < 0 else moved


def mirrored_order(skeleton: Skeleton) -> list[int]:
    """For each keypoint, that of the other side, however sides are written: left_knee, LeftKnee, l-knee, LKnee."""
    places = {name: place for place, name in enumerate(skeleton.keypoints)}
    others = ["".join(_OTHER_SIDE.get(word, word) for word in _WORDS.findall(name)) for name in skeleton.keypoints]
    return [places.get(other, place) for place, other in enumerate(others)]


def random_panels(side: int, random: np.random.Generator) -> list[Panel]:
    """A training picture of `side` pixels as one to four panels that cover it.

    Pictures of one person each so become crowds of small people, cut off by one another, on ever new neighbours: a few thousand
    pictures are otherwise soon known by heart. The idea is that of mosaics (A. Bochkovskiy et al., "YOLOv4", arXiv:2004.10934); since the
    teacher labels what the student sees, its labels need no cutting.
    """
    whole: Panel = (slice(0, side), slice(0, side))
    upright = random.random() < 0.5
    return [part for half in _cut(whole, upright, random) for part in _cut(half, not upright, random)]


def _cut(panel: Panel, upright: bool, random: np.random.Generator) -> list[Panel]:
    rows, columns = panel
    across = columns if upright else rows
    share = random.uniform(*_CUT_AT) if random.random() < _CUT else 0.0
    at = across.start + round(share * (across.stop - across.start) / _CUT_STEP) * _CUT_STEP
    parts = [slice(a, b) for a, b in ((across.start, at), (at, across.stop)) if a < b]
    return [(rows, part) if upright else (part, columns) for part in parts]


def random_view(
    picture_wh: tuple[int, int], crop_wh: tuple[int, int], random: np.random.Generator, zoom: float = 1.0, tile: bool = True
) -> View:
    """A similarity with a change of aspect, mirrored half of the time, around a point of the picture. `zoom` multiplies that of chance;
    without `tile` the picture is never repeated."""
    w, h = picture_wh
    zoom *= math.exp(random.uniform(*np.log(_ZOOM))) * _USUAL_SIDE / max(w, h)
    wider = math.sqrt(math.exp(random.uniform(*np.log(_WIDER))))
    angle = math.radians(random.normal(0, _ROTATION_DEG))
    mirror = -1.0 if random.random() < 0.5 else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.diag([mirror * zoom * wider, zoom / wider])
    centre = np.array([w, h]) * random.uniform(0.2, 0.8, 2)
    tiled = bool(random.random() >= _BORDERED)
    return View(np.column_stack([linear, np.array(crop_wh) / 2 - linear @ centre]), tiled and tile)


def crop_into(target: Picture, picture: Picture, view: View) -> None:
    """Writes the crop into `target` (height, width, 3), in place.

    OpenCV counts from the centre of the first pixel, we from its corner: its offset differs by half a pixel on either side.
    """
    linear = view.matrix[:, :2]
    matrix = np.column_stack([linear, view.matrix[:, 2] + linear @ (0.5, 0.5) - 0.5])
    border = cv2.BORDER_WRAP if view.tiled else cv2.BORDER_CONSTANT
    grey = (GREY, GREY, GREY)
    merged = round(1 / math.sqrt(abs(np.linalg.det(linear))))
    if merged > 1:  # bilinear sampling would skip pixels
        picture = np.asarray(cv2.blur(picture, (merged, merged), anchor=(0, 0)), np.uint8)
        matrix[:, 2] += linear @ (0.5, 0.5) * (merged - 1)  # a pixel is now the mean of itself and those after it
    cv2.warpAffine(picture, matrix, target.shape[1::-1], dst=target, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=grey)


class Camera:
    """Changes what a student sees but not where things are: light, contrast, colour, noise."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self._noise = torch.randn(1 << 22, generator=self.random)

    def shoot(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) of 0-255 in float32 -> the same, changed in place."""
        n = len(pictures)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(n, *shape).uniform_(low, high, generator=self.random).to(pictures.device)

        pictures.sub_(GREY).mul_(uniform(0.6, 1.4, 1, 1, 1)).mul_(uniform(0.85, 1.15, 3, 1, 1))
        pictures.add_(uniform(-30, 30, 1, 1, 1)).add_(uniform(-12, 12, 3, 1, 1)).add_(GREY)
        grey = uniform(0, 1) < _GREY_PICTURES
        if grey.any():
            pictures[grey] = pictures[grey].mean(1, keepdim=True).expand_as(pictures[grey])
        pictures.addcmul_(self._noise_like(pictures), uniform(0, 1, 1, 1, 1) ** 2 * _NOISE_LEVELS)
        return pictures.clamp_(0, 255)

    def _noise_like(self, pictures: Tensor) -> Tensor:
        """A random stretch of a long record: drawing millions of normal numbers a step would cost more than the rest."""
        self._noise = self._noise.to(pictures.device)
        needed = pictures[0].numel()
        starts = torch.randint(len(self._noise) - needed, (len(pictures),), generator=self.random).tolist()
        return torch.stack([self._noise[s : s + needed] for s in starts]).view_as(pictures)
