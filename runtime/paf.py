"""`PafParser`: people from confidence maps and part affinity fields, in C++. The algorithm is told in `_native/paf_parser.hpp`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.errors import ConfigError, ShapeMismatch
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime import _paf
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses

INSTRUCTION_SETS: tuple[str, ...] = tuple(_paf.instruction_sets())
"""Those of this processor that the parser has code for, the best first. All give the same bits."""


class PafParser:
    """One skeleton, one set of parameters, and the memory that parsing needs, reused from frame to frame.

    One thread at a time; several parsers run in parallel, since the interpreter is released while one works. `instructions` is one of
    INSTRUCTION_SETS or `auto`. Raises ConfigError.
    """

    def __init__(self, skeleton: Skeleton, parameters: PafParameters | None = None, instructions: str = "auto") -> None:
        p = parameters or PafParameters()
        if not skeleton.keypoints or len(skeleton.limbs) > _paf.MOST_LIMBS:
            raise ConfigError(
                f"skeleton {skeleton.name!r} has {len(skeleton.keypoints)} keypoints and {len(skeleton.limbs)} limbs:"
                f" the parser wants at least one keypoint and at most {_paf.MOST_LIMBS} limbs"
            )
        if instructions not in ("auto", *INSTRUCTION_SETS):
            raise ConfigError(f"instructions {instructions!r}: this processor has {', '.join(INSTRUCTION_SETS)}")
        self._parser = _paf.Parser(
            len(skeleton.keypoints),
            [(limb.start, limb.end, limb.x, limb.y) for limb in skeleton.limbs],
            threshold=p.threshold,
            most_peaks=p.maximum_peaks,
            samples=p.samples,
            along=p.along,
            share=p.share,
            near=p.near,
            length_cost=p.length_cost,
            reach=p.reach,
            minimum_keypoints=min(p.minimum_keypoints, len(skeleton.keypoints)),
            minimum_score=p.minimum_score,
            most_persons=p.maximum_persons,
            instructions=instructions,
        )

    @property
    def instructions(self) -> str:
        """The instruction set in use."""
        return str(self._parser.instructions)

    def parse(self, heatmaps: NDArray[np.floating], pafs: NDArray[np.floating]) -> Poses:
        """Confidence maps (C, h, w) and PAFs (P, h, w) of one picture, both float32 or float16 -> people, positions in map cells.

        The arrays are read in place: rows and channels may lie apart, the cells of a row may not. Channels beyond the skeleton's keypoints
        (the background) are ignored. Raises ShapeMismatch; RuntimeError where two threads use one parser at once.
        """
        for name, maps in (("heatmaps", heatmaps), ("PAFs", pafs)):
            if getattr(maps, "ndim", None) != 3:
                raise ShapeMismatch(f"{name} of shape {np.shape(maps)}: wanted an array (channels, h, w) of one picture")
        try:
            return Poses(*self._parser.parse(heatmaps, pafs))
        except ValueError as error:
            raise ShapeMismatch(str(error)) from None

    def microseconds(
        self, heatmaps: NDArray[np.float32], pafs: NDArray[np.float32], rounds: int = 9, repeats: int = 20
    ) -> tuple[float, float]:
        """CPU time of one parse without Python, and of one pass over the same maps that only looks for the largest value."""
        try:
            return self._parser.microseconds(heatmaps, pafs, rounds, repeats)
        except ValueError as error:
            raise ShapeMismatch(str(error)) from None
