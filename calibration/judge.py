"""`Judge`: what a quantised engine loses against the floating-point one, in COCO AP or, without labels, in agreement of the poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.coco import CocoEvaluation, CocoLabels
from edgepose.calibration.oks import agreement
from edgepose.calibration.source import Pictures
from edgepose.engines.engine import Engine
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import picture_from_file

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`oks` is the mean over the people of the reference, a missed one counting 0; `ap_drop` is reference minus engine, in AP, and
    `ap_drop_error` its standard error: what other pictures would have made of it."""

    pictures: int
    persons: int
    oks: float
    missed: int
    extra: int
    ap: float | None
    ap_drop: float | None
    ap_drop_error: float | None
    holds: bool

    def __str__(self) -> str:
        people = f"OKS {self.oks:.4f} over {self.persons} people, {self.missed} missed, {self.extra} extra"
        return people if self.ap is None else f"AP {self.ap:.4f} (lost {self.ap_drop:.4f} ± {self.ap_drop_error:.4f}), {people}"


@dataclass(frozen=True, slots=True)
class Gate:
    """What a quantised engine may lose: AP where there are labels, else OKS."""

    max_ap_drop: float | None = None
    min_oks: float | None = None

    def holds(self, oks: float, ap_drop: float | None) -> bool:
        ap_holds = self.max_ap_drop is None or (ap_drop is not None and ap_drop <= self.max_ap_drop)
        return ap_holds and (self.min_oks is None or oks >= self.min_oks)

    def __str__(self) -> str:
        asked = [f"AP drop at most {self.max_ap_drop:g}"] if self.max_ap_drop is not None else []
        return " and ".join(asked + ([f"mean OKS at least {self.min_oks:g}"] if self.min_oks is not None else [])) or "nothing asked"


class Judge:
    """Compares engines with `reference` on one set of pictures."""

    def __init__(self, reference: Engine, pictures: Mapping[int, Path] | Pictures, gate: Gate, labels: CocoLabels | None = None) -> None:
        self._pictures = pictures
        self._skeleton = reference.contract.skeleton
        self._labels = labels
        self.gate = gate
        self._wanted = self.poses(reference)
        self.evaluation = self._evaluation(self._wanted)
        """The reference against the labels, where there are labels."""

    @property
    def persons(self) -> int:
        return sum(map(len, self._wanted.values()))

    def verdict(self, engine: Engine) -> Verdict:
        """Runs the engine on all pictures."""
        found = self.poses(engine)
        agreed = agreement(list(self._wanted.values()), list(found.values()), self._skeleton)
        oks = float(np.mean(agreed.oks)) if agreed.oks else float(not agreed.extra)
        people = len(found), len(agreed.oks), oks, agreed.missed, agreed.extra
        wanted, got = self.evaluation, self._evaluation(found)
        if wanted is None or got is None:
            return Verdict(*people, None, None, None, self.gate.holds(oks, None))
        lost = got.lost(wanted)
        return Verdict(*people, got.accuracy.ap, lost, got.lost_error(wanted), self.gate.holds(oks, lost))

    def worst(self, engine: Engine, count: int) -> list[tuple[Picture, Poses, Poses, float]]:
        """(picture, its people by the reference, by the engine, OKS) of the pictures that agree least, worst first."""
        found = self.poses(engine)
        marks = {}
        for key, wanted in self._wanted.items():
            agreed = agreement([wanted], [found[key]], self._skeleton)
            marks[key] = (sum(agreed.oks) + 1e-9) / (len(wanted) + agreed.extra + 1e-9)
        pictures = {key: key for key in sorted(marks, key=lambda key: marks[key])[:count]}
        shown = {key: picture for picture, key in self._read() if key in pictures}
        return [(shown[key], self._wanted[key], found[key], marks[key]) for key in pictures]

    def poses(self, engine: Engine) -> dict[int, Poses]:
        """The people an engine finds, by picture."""
        return dict(PoseEstimator(engine).estimate_all(self._read()))

    def _read(self) -> Iterator[tuple[Picture, int]]:
        if isinstance(self._pictures, np.ndarray):
            yield from zip(self._pictures, range(len(self._pictures)), strict=True)
        else:
            for key, path in self._pictures.items():
                yield picture_from_file(path), key

    def _evaluation(self, poses: dict[int, Poses]) -> CocoEvaluation | None:
        return self._labels.evaluation(poses, self._skeleton) if self._labels else None
