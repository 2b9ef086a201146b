"""`PoseEstimator`: pictures in, people out, one engine, its ring of slots kept busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import Placement
from edgepose.engines.engine import Engine, Slot
from edgepose.engines.errors import InferenceFailed
from edgepose.runtime.paf import PafParser
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses
from edgepose.runtime.preprocess import fit_into

Picture = NDArray[np.uint8]
T = TypeVar("T")


class PoseEstimator:
    """Runs an engine on (H, W, 3) BGR pictures of any size; people come back in that picture's pixels. For one thread."""

    def __init__(self, engine: Engine, parameters: PafParameters | None = None) -> None:
        self._engine = engine
        self._parser = PafParser(engine.contract.skeleton, parameters)

    def estimate(self, picture: Picture) -> Poses:
        """The people in one picture."""
        return next(poses for _, poses in self.estimate_all([(picture, None)]))

    def estimate_all(self, pictures: Iterable[tuple[Picture, T]]) -> Iterator[tuple[T, Poses]]:
        """(picture, anything) -> (that thing, the people), in order; as many pictures are in flight as the engine has slots."""
        flying: deque[_InFlight[T]] = deque()
        idle = deque(self._engine.slots)
        if not idle:
            raise InferenceFailed("the engine is closed: open it again")
        try:
            for picture, companion in pictures:
                if not idle:
                    yield self._landed(flying, idle)
                slot = idle.popleft()
                place = fit_into(slot.pictures[0], picture, self._engine.contract.input)
                slot.start()
                flying.append(_InFlight(slot, place, companion))
            while flying:
                yield self._landed(flying, idle)
        finally:
            for each in flying:  # an abandoned or failed run leaves every slot idle
                with suppress(InferenceFailed):
                    each.slot.wait()

    def _landed(self, flying: deque[_InFlight[T]], idle: deque[Slot]) -> tuple[T, Poses]:
        first = flying.popleft()
        maps = first.slot.wait()
        poses = self._parser.parse(maps.heatmaps[0], maps.pafs[0])
        idle.append(first.slot)
        xy = poses.keypoints[..., :2].astype(np.float64) * self._engine.contract.output.stride
        return first.companion, poses.moved(first.place.picture_from_network(xy))


@dataclass(frozen=True, slots=True)
class _InFlight(Generic[T]):
    slot: Slot
    place: Placement
    companion: T
