"""`CalibrationSource`: the pictures that INT8 scales are chosen from: a folder, a video, a camera or an array.

They reach the network exactly as the runtime's pictures do: BGR levels, fitted by `runtime.preprocess` to the contract's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import InputContract
from edgepose.engines.errors import CalibrationError, SourceError
from edgepose.runtime.camera import live_source
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sources import PictureSource, Source, as_utf8, is_uri, open_source, picture_from_file

Pictures = NDArray[np.uint8]
_THUMBNAIL_WH = (24, 24)
_SAME_LEVELS = 4.0
"""Frames whose 24 x 24 grey thumbnails differ by less, on average, show the same scene: a video's noise gives 1 to 2 levels."""


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """`pictures` is (n, height, width, 3) uint8 BGR, fitted; `names` tells a person which is which.

    `names` and `origin` go into files that are UTF-8 and that others read: a byte of a file's name that is not UTF-8 is a question mark in
    them, a camera's password `***`. `fingerprint` is the sha256 of the fitted pixels in order, so it covers source, count, seed and the
    contract's fit.
    """

    pictures: Pictures
    names: tuple[str, ...]
    origin: str
    fingerprint: str


class CalibrationSource(Protocol):
    """Where pictures come from. `pick` yields (name, fitted picture), at most `count`. Raises SourceError or CalibrationError."""

    def pick(self, contract: InputContract, count: int, seed: int) -> Iterable[tuple[str, Pictures]]: ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    """`count` of a folder's pictures, drawn by `seed`."""

    paths: tuple[Path, ...]

    def pick(self, contract: InputContract, count: int, seed: int) -> Iterator[tuple[str, Pictures]]:
        drawn = np.random.default_rng(seed).permutation(len(self.paths))[:count]
        for path in (self.paths[i] for i in drawn):
            yield path.name, _fitted(picture_from_file(path), contract)


@dataclass(frozen=True, slots=True)
class StreamSource:
    """`count` frames spread over a video or a recording, near-duplicates dropped; the seed has no part in it.

    One pass and bounded memory: whenever twice as many frames are kept as are wanted, every other one is let go and from then on only
    every other distinct frame is kept.
    """

    source: Source

    def pick(self, contract: InputContract, count: int, seed: int) -> Iterator[tuple[str, Pictures]]:  # noqa: ARG002
        kept: list[tuple[str, Pictures]] = []
        every = 1
        for distinct, (name, picture) in enumerate(self._distinct()):
            if distinct % every == 0:
                kept.append((name, _fitted(picture, contract)))
            if len(kept) == 2 * count:
                kept, every = kept[::2], 2 * every
        for index in np.unique(np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)):
            yield kept[index]

    def _distinct(self) -> Iterator[tuple[str, Pictures]]:
        last: NDArray[np.int16] | None = None
        for frame in self.source.frames():
            seen = _thumbnail(frame.picture)
            if last is None or np.abs(seen - last).mean() >= _SAME_LEVELS:
                last = seen
                yield frame.name, frame.picture


@dataclass(frozen=True, slots=True)
class ArraySource:
    """`count` pictures of an `.npz`, drawn by `seed`."""

    path: Path

    def pick(self, contract: InputContract, count: int, seed: int) -> Iterator[tuple[str, Pictures]]:
        pictures = _array(self.path)
        for index in np.random.default_rng(seed).permutation(len(pictures))[:count]:
            yield f"{self.path.name}[{index}]", _fitted(pictures[index], contract)


def open_calibration(text: str, seconds: float = 60.0) -> CalibrationSource:
    """A folder, a picture, a video, an `.npz` of (n, H, W, 3) uint8 BGR pictures, or a camera's URL, recorded for `seconds`.

    Raises SourceError for what is missing or of unknown kind.
    """
    if is_uri(text) and not text.startswith("test:"):
        return StreamSource(replace(live_source(text), seconds=seconds))
    path = Path(text)
    if path.suffix.lower() == ".npz":
        return ArraySource(path)
    source = open_source(path)
    return FolderSource(source.paths) if isinstance(source, PictureSource) else StreamSource(source)


def calibration_set(text: str, contract: InputContract, count: int, seed: int, seconds: float = 60.0) -> CalibrationSet:
    """Reads and fits the pictures. Raises SourceError for what cannot be read, CalibrationError where there is no picture."""
    picked = list(open_calibration(text, seconds).pick(contract, count, seed))
    origin = as_utf8(without_password(text))
    if not picked:
        raise CalibrationError(f"{origin}: no picture to calibrate on")
    pictures = np.stack([picture for _, picture in picked])
    return CalibrationSet(pictures, tuple(as_utf8(name) for name, _ in picked), origin, hashlib.sha256(pictures.tobytes()).hexdigest())


def _fitted(picture: Pictures, contract: InputContract) -> Pictures:
    target = np.empty((contract.height, contract.width, 3), np.uint8)
    fit_into(target, picture, contract)
    return target


def _thumbnail(picture: Pictures) -> NDArray[np.int16]:
    small = cv2.resize(picture, _THUMBNAIL_WH, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.int16)


def _array(path: Path) -> Pictures:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # NumPy lets through what zip, zlib and its headers raise for torn or hostile files
        raise SourceError(f"{path}: not an .npz file of arrays ({' '.join(str(error).split())})") from error
    pictures = found.get("pictures", next(iter(found.values())) if len(found) == 1 else None)
    if pictures is None:
        raise SourceError(f"{path}: holds {', '.join(found) or 'nothing'}: wanted one array, named 'pictures'")
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise SourceError(f"{path}: pictures of shape {pictures.shape} and type {pictures.dtype}: wanted (n, H, W, 3) uint8, BGR")
    return np.asarray(pictures, np.uint8)
