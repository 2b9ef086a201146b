"""`Judge`: what a quantised model loses against the floating-point one, in COCO AP or, without labels, in agreement of the poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.calibration.album import Album, Found, Picture
from edgepose.calibration.coco import CocoEvaluation, CocoLabels
from edgepose.calibration.oks import agreement
from edgepose.engines.errors import CalibrationError
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.poses import Poses


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


def check_judge(judge: Judge) -> None:
    """Raises CalibrationError where the floating-point network itself finds nobody: whatever INT8 finds would hold the gate."""
    if judge.evaluation is not None and judge.evaluation.accuracy.ap <= 0:
        raise CalibrationError("in floating point the network has AP 0 on the gate's labels: give those of people whom it finds")
    if not judge.persons:
        raise CalibrationError("in floating point the network finds nobody in the gate's pictures: give --verify pictures with people")


class Judge:
    """Compares what models find in an album with what the reference finds."""

    def __init__(self, album: Album, wanted: Found, skeleton: Skeleton, gate: Gate, labels: CocoLabels | None = None) -> None:
        self.album, self.gate = album, gate
        self._wanted, self._skeleton, self._labels = wanted, skeleton, labels
        self.evaluation = self._evaluation(wanted)
        """The reference against the labels, where there are labels."""

    @property
    def persons(self) -> int:
        """Whom the reference finds."""
        return sum(map(len, self._wanted.values()))

    def verdict(self, found: Found) -> Verdict:
        agreed = agreement(list(self._wanted.values()), list(found.values()), self._skeleton)
        oks = float(np.mean(agreed.oks)) if agreed.oks else float(not agreed.extra)
        people = len(found), len(agreed.oks), oks, agreed.missed, agreed.extra
        wanted, got = self.evaluation, self._evaluation(found)
        if wanted is None or got is None:
            return Verdict(*people, None, None, None, self.gate.holds(oks, None))
        lost = got.lost(wanted)
        return Verdict(*people, got.accuracy.ap, lost, got.lost_error(wanted), self.gate.holds(oks, lost))

    def worst(self, found: Found, count: int) -> list[tuple[Picture, Poses, Poses, float]]:
        """(picture, its people by the reference, those found, OKS) of the pictures that agree least, worst first."""
        marks = {}
        for number, wanted in self._wanted.items():
            agreed = agreement([wanted], [found[number]], self._skeleton)
            marks[number] = (sum(agreed.oks) + 1e-9) / (len(wanted) + agreed.extra + 1e-9)
        chosen = sorted(marks, key=lambda number: marks[number])[:count]
        pictures = {number: picture for picture, number in self.album.read() if number in chosen}
        return [(pictures[number], self._wanted[number], found[number], marks[number]) for number in chosen]

    def _evaluation(self, poses: Found) -> CocoEvaluation | None:
        return self._labels.evaluation(poses, self._skeleton) if self._labels else None
