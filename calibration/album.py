"""`Album`: the pictures that models are judged on, and what each model found in them, kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.cache import CalibrationCache
from edgepose.calibration.source import Pictures
from edgepose.engines.engine import Engine
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import picture_from_file

Picture = NDArray[np.uint8]
Found = dict[int, Poses]
"""The people of each picture, by the picture's number, in its pixels."""


class Album:
    """Files by number, or (n, height, width, 3) pictures, numbered from 0."""

    def __init__(self, pictures: Mapping[int, Path] | Pictures, cache: CalibrationCache) -> None:
        self._pictures, self._cache = pictures, cache

    def found_by(self, engine: Engine) -> Found:
        return dict(PoseEstimator(engine).estimate_all(self.read()))

    def remembered(self, key: dict[str, Any], opened: Callable[[], Engine]) -> Found:
        """What the engine that `key` describes finds, from the cache where it was asked before."""

        def write(place: Path) -> None:
            with closing(opened()) as engine:
                found = self.found_by(engine)
            np.savez(
                place / "poses.npz",
                pictures=np.array(list(found), np.int64),
                counts=np.array([len(poses) for poses in found.values()], np.intp),
                keypoints=np.concatenate([poses.keypoints for poses in found.values()]),
                scores=np.concatenate([poses.scores for poses in found.values()]),
            )

        place = self._cache.entry({**key, "kind": "poses", "judged_on": self._digest}, write)
        with np.load(place / "poses.npz", allow_pickle=False) as kept:
            ends = np.cumsum(kept["counts"])[:-1]
            people = zip(np.split(kept["keypoints"], ends), np.split(kept["scores"], ends), strict=True)
            return {number: Poses(*poses) for number, poses in zip(kept["pictures"].tolist(), people, strict=True)}

    def read(self) -> Iterator[tuple[Picture, int]]:
        if isinstance(self._pictures, np.ndarray):
            yield from zip(self._pictures, range(len(self._pictures)), strict=True)
        else:
            for number, path in self._pictures.items():
                yield picture_from_file(path), number

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        if isinstance(self._pictures, np.ndarray):
            digest.update(repr(self._pictures.shape).encode())
            digest.update(self._pictures.tobytes())
        else:
            for number, path in self._pictures.items():
                digest.update(f"{number}:{hashlib.sha256(path.read_bytes()).hexdigest()};".encode())
        return digest.hexdigest()
