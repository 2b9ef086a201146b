"""Poses drawn over a picture."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engines.skeleton import Limb, Skeleton
from edgepose.runtime.poses import Poses

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_SHIFT = 4  # OpenCV's drawing functions take coordinates in sixteenths of a pixel
_OUTLINE: Colour = (24, 20, 18)
_HUES = {"right": (5.0, 85.0), "left": (195.0, 300.0), "middle": (130.0, 160.0)}  # degrees of OKLCH: warm, cool, green
_LMS_FROM_OKLAB = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def draw_poses(picture_bgr: Picture, poses: Poses, skeleton: Skeleton, *, scores: bool = False) -> Picture:
    """A copy of `picture_bgr`, uint8 (H, W, 3), with `poses` (picture pixels) drawn over it; see `draw_poses_in_place`."""
    picture = np.array(picture_bgr, np.uint8, order="C")
    draw_poses_in_place(picture, poses, skeleton, scores=scores)
    return picture


def draw_poses_in_place(picture_bgr: Picture, poses: Poses, skeleton: Skeleton, *, scores: bool = False) -> None:
    """Draws over the caller's own `picture_bgr`, uint8 (H, W, 3), C-contiguous and writeable; `poses` are in picture pixels.

    The person's right side is warm, the left side cool, what joins them green. Strokes grow with the person and the picture; the best
    person is drawn last. Limbs from shoulder to ear, which help the parser only, are left out. Above the head stand the id of a tracked
    person and, with `scores`, the score. Raises ValueError where poses and skeleton disagree.
    """
    if poses.keypoints.shape[1:] != (len(skeleton.keypoints), 3):
        raise ValueError(f"poses of shape {poses.keypoints.shape} for a skeleton of {len(skeleton.keypoints)} keypoints")
    drawable = poses.present & np.isfinite(poses.keypoints[..., :2]).all(-1)
    worst_first = [person for person in reversed(range(len(poses))) if drawable[person].any()]
    xy = _within_reach(poses.keypoints[..., :2].astype(np.float64), picture_bgr)
    for person in worst_first:
        _draw_person(picture_bgr, xy[person], drawable[person], skeleton)
    for person in worst_first:
        if label := _label(poses, person, scores):
            _draw_label(picture_bgr, xy[person][drawable[person]], label)


def _within_reach(xy_px: NDArray[np.float64], picture: Picture) -> NDArray[np.float64]:
    """Keeps wild coordinates inside what OpenCV's fixed-point numbers can hold."""
    reach = 4 * max(picture.shape[:2])
    return np.clip(xy_px, -reach, 2 * reach)


def _draw_person(picture: Picture, xy_px: NDArray[np.float64], drawable: NDArray[np.bool_], skeleton: Skeleton) -> None:
    limb_colours, joint_colours = palette(skeleton)
    stroke = _stroke_px(picture, xy_px[drawable])
    edge = min(2.0, 0.6 + 0.2 * stroke)
    limbs = [(limb.start, limb.end, colour) for limb, colour in limb_colours if drawable[limb.start] and drawable[limb.end]]
    ends = xy_px[[limb[0] for limb in limbs]], xy_px[[limb[1] for limb in limbs]]
    joints = np.flatnonzero(drawable)
    centres = _fixed_point(xy_px[joints]).tolist()
    for widening, limb_paint, joint_paint in (
        (edge, [_OUTLINE] * len(limbs), [_OUTLINE] * len(joints)),
        (0.0, [colour for _, _, colour in limbs], [joint_colours[k] for k in joints]),
    ):
        for corners, colour in zip(_limb_corners(*ends, stroke + 2 * widening), limb_paint, strict=True):
            cv2.fillConvexPoly(picture, corners, colour, cv2.LINE_AA, _SHIFT)
        radius = round((0.95 * stroke + widening) * (1 << _SHIFT))
        for centre, colour in zip(centres, joint_paint, strict=True):
            cv2.circle(picture, centre, radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _stroke_px(picture: Picture, xy_px: NDArray[np.float64]) -> float:
    """Width of a limb: 1/50 of the person, within bounds that grow with the picture."""
    person = float(np.linalg.norm(np.ptp(xy_px, axis=0)))
    diagonal = math.hypot(*picture.shape[:2])
    return float(np.clip(person / 50, max(1.2, diagonal / 800), max(2.0, diagonal / 170)))


def _limb_corners(start: NDArray[np.float64], end: NDArray[np.float64], width_px: float) -> NDArray[np.int32]:
    """(n, 2) and (n, 2) -> (n, 4, 2) in fixed point; a limb without length has no area."""
    along = end - start
    length = np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    across = np.stack([-along[:, 1], along[:, 0]], -1) * (width_px / 2) / length
    return _fixed_point(np.stack([start + across, end + across, end - across, start - across], 1))


def _fixed_point(xy_px: NDArray[np.float64]) -> NDArray[np.int32]:
    """From our coordinates to OpenCV's, whose whole numbers are pixel centres, in sixteenths."""
    return np.round((xy_px - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _label(poses: Poses, person: int, scores: bool) -> str:
    parts = [str(poses.ids[person])] if poses.ids is not None else []
    return " ".join([*parts, f"{float(poses.scores[person]):.2f}"] if scores else parts)


def _draw_label(picture: Picture, xy_px: NDArray[np.float64], text: str) -> None:
    """In white on the outline's colour, above the person's highest keypoint and inside the picture."""
    height, width = picture.shape[:2]
    scale = max(0.32, math.hypot(height, width) / 2600)
    thickness = max(1, round(2 * scale))
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = max(2, h // 3)
    middle, top = xy_px[xy_px[:, 1].argmin()]
    x = int(np.clip(middle - w / 2 - pad, 0, max(0, width - w - 2 * pad)))
    y = int(np.clip(top - 4 * pad - h, 0, max(0, height - h - 2 * pad)))
    cv2.rectangle(picture, (x, y), (x + w + 2 * pad - 1, y + h + 2 * pad - 1), _OUTLINE, cv2.FILLED)
    cv2.putText(picture, text, (x + pad, y + pad + h), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thickness, cv2.LINE_AA)


def palette(skeleton: Skeleton) -> tuple[tuple[tuple[Limb, Colour], ...], tuple[Colour, ...]]:
    """The limbs to draw with their BGR colours, and the keypoints' colours: each side's hues spread over its own part of the wheel."""
    ends = [(limb, skeleton.keypoints[limb.start], skeleton.keypoints[limb.end]) for limb in skeleton.limbs]
    drawn = [end for end in ends if {name.split("_")[-1] for name in (end[1], end[2])} != {"shoulder", "ear"}]
    colours = _colours([_side(start, end) for _, start, end in drawn])
    limbs = tuple((limb, colour) for (limb, _, _), colour in zip(drawn, colours, strict=True))
    return limbs, _colours([_side(name, name) for name in skeleton.keypoints])


def _side(start: str, end: str) -> str:
    sides = {name.split("_")[0] for name in (start, end)} & {"left", "right"}
    return sides.pop() if len(sides) == 1 else "middle"


def _colours(sides: list[str]) -> tuple[Colour, ...]:
    colours = []
    for place, side in enumerate(sides):
        first, last = _HUES[side]
        rank, most = sides[:place].count(side), max(1, sides.count(side) - 1)
        colours.append(_bgr_from_oklch(0.78, 0.17, first + (last - first) * rank / most))
    return tuple(colours)


@lru_cache(maxsize=256)
def _bgr_from_oklch(lightness: float, chroma: float, hue_deg: float) -> Colour:
    """Source: B. Ottosson, "A perceptual color space for image processing" (2020); clipped to sRGB."""
    lab = lightness, chroma * math.cos(math.radians(hue_deg)), chroma * math.sin(math.radians(hue_deg))
    linear = np.clip(_RGB_FROM_LMS @ (_LMS_FROM_OKLAB @ lab) ** 3, 0, 1)
    red, green, blue = (int(v) for v in np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)))
    return blue, green, red
