"""Sheets of pictures on which student and teacher are drawn side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgepose.engines.contract import ModelContract
from edgepose.export.distill.supply import Batch
from edgepose.runtime.complete_file import write_complete
from edgepose.runtime.overlay import draw_poses
from edgepose.runtime.paf import PafParser

Picture = NDArray[np.uint8]
_PAIRS_A_ROW = 3


def write_sheet(path: Path, batch: Batch, student_maps: Tensor, contract: ModelContract) -> None:
    """JPEG of pairs, student left and teacher right: people found, over the picture, and the strongest heatmap below. Raises SinkError."""
    pairs = [
        np.hstack([_panel(picture, maps, contract) for maps in both])
        for picture, *both in zip(batch.pictures.numpy(), _numpy(student_maps), _numpy(batch.lesson.maps), strict=True)
    ]
    rows = [np.hstack(pairs[i : i + _PAIRS_A_ROW]) for i in range(0, len(pairs) - len(pairs) % _PAIRS_A_ROW, _PAIRS_A_ROW)]
    encoded = cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    write_complete(path, encoded.tobytes())


def _panel(picture: Picture, maps: NDArray[np.float32], contract: ModelContract) -> Picture:
    output = contract.output
    heatmaps, pafs = maps[: output.heatmap_channels], maps[output.heatmap_channels :]
    poses = PafParser(contract.skeleton).parse(heatmaps, pafs)
    poses = poses.moved(poses.keypoints[..., :2].astype(np.float64) * output.stride).above(0.1)
    drawn = draw_poses(picture, poses, contract.skeleton)
    strongest = heatmaps[: len(contract.skeleton.keypoints)].max(0).clip(0, 1)
    levels = cv2.resize((255 * strongest).astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.vstack([drawn, np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA), np.uint8)])


def _numpy(maps: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(maps.float().cpu().numpy())
