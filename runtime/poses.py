"""`Poses`: the people found in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Poses:
    """`keypoints` is float32 (persons, keypoints, 3): x, y and confidence; a keypoint that was not found is (NaN, NaN, 0).

    x and y are in whatever frame the function that made them states (map cells, network input or picture pixels), under the
    convention of `edgepose.engines.contract`. `scores` is float32 (persons,), best first. `ids` (persons,) say who is who from frame to
    frame, counted from 1, where people are tracked.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(persons, keypoints): which keypoints were found."""
        return self.keypoints[..., 2] > 0

    def moved(self, xy: NDArray[np.float64]) -> Poses:
        """The same people with the positions `xy` (persons, keypoints, 2), in another frame."""
        return Poses(np.concatenate([xy.astype(np.float32), self.keypoints[..., 2:]], -1), self.scores, self.ids)

    def above(self, score: float) -> Poses:
        """Those whose score is at least `score`."""
        kept = self.scores >= score
        return Poses(self.keypoints[kept], self.scores[kept], None if self.ids is None else self.ids[kept])


def no_poses(keypoints: int) -> Poses:
    """Nobody, for a skeleton of so many keypoints."""
    return Poses(np.empty((0, keypoints, 3), np.float32), np.empty(0, np.float32))
