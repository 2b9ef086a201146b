"""`Album`: every picture of the training folders, decoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import ConfigError
from edgepose.runtime.sources import PictureSource, open_source, picture_from_file

Picture = NDArray[np.uint8]
Tick = Callable[[int, int], None]

LONGEST_SIDE = 448
"""Pixels; larger pictures are reduced. Crops are smaller than this, and a thousand pictures then take half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Album:
    """`pictures` are (H, W, 3) uint8 BGR, each with the scale that it was reduced by; `paths` says where they came from."""

    paths: tuple[Path, ...]
    pictures: tuple[Picture, ...]
    scales: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.pictures)


def album_from_folders(folders: Sequence[Path], tick: Tick = lambda _, __: None, held_out: Iterable[Path] = ()) -> Album:
    """All pictures of the folders but those held out, in order. Raises SourceError, and ConfigError for what is not a folder of pictures
    and where none is left."""
    others = {path.resolve() for path in held_out}
    paths: list[Path] = []
    for folder in folders:
        source = open_source(folder)
        if not isinstance(source, PictureSource):
            raise ConfigError(f"{folder}: wanted a folder of pictures; take frames out of a video first")
        paths.extend(path for path in source.paths if not others or path.resolve() not in others)
    if not paths:
        raise ConfigError(f"{', '.join(map(str, folders))}: every picture is one to judge by: wanted others to learn from")
    return album_from_files(paths, tick)


def album_from_files(paths: Sequence[Path], tick: Tick = lambda _, __: None) -> Album:
    """Raises SourceError for a file that is no picture."""
    pictures, scales = [], []
    with ThreadPoolExecutor() as pool:
        for done, (picture, scale) in enumerate(pool.map(_reduced, paths), 1):
            pictures.append(picture)
            scales.append(scale)
            tick(done, len(paths))
    return Album(tuple(paths), tuple(pictures), tuple(scales))


def _reduced(path: Path) -> tuple[Picture, float]:
    picture = picture_from_file(path)
    h, w = picture.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(h, w))
    if scale == 1.0:
        return picture, scale
    size = max(1, round(w * scale)), max(1, round(h * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), scale
