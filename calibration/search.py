"""From statistics to the INT8 model that holds the gate: which calibrator, which layers go back to floating point, and every step told."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.calibration.cache import CalibrationCache
from edgepose.calibration.graph import NetworkGraph
from edgepose.calibration.judge import Judge, Verdict
from edgepose.calibration.quantiser import Quantiser
from edgepose.calibration.ranges import CALIBRATORS, PERCENTILES, Ranges, percentile
from edgepose.calibration.ranking import ranked_layers
from edgepose.calibration.source import Pictures
from edgepose.calibration.statistics import ActivationStatistics
from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import AccuracyGateFailed, ConfigError
from edgepose.engines.record import did_you_mean

CALIBRATOR_NAMES = ("auto", *CALIBRATORS, "pose")
_TENSOR_GROUPS = 4
_PUT_BACK_STEPS = 8
_LEAST_INT8_SHARE = 0.5
"""Below this part of the multiplications in INT8 there is little left to win against FP16."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One model that was tried: how it was made and what it lost, on the calibration pictures (`quick`) or on the gate's."""

    action: str
    calibrator: str
    floating: tuple[str, ...]
    int8_share: float
    quick: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a model is made from."""

    calibrator: str
    ranges: Ranges
    floating: frozenset[str]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The candidate that holds the gate, its model file in the cache, and the way to it; the last step is the verdict on it."""

    candidate: Candidate
    model: Path
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> Verdict:
        return self.steps[-1].verdict


class CalibrationSearch:
    """Tries models of one quantiser. `quick` judges on a few calibration pictures, `judge` by the gate."""

    def __init__(
        self,
        graph: NetworkGraph,
        contract: ModelContract,
        statistics: ActivationStatistics,
        quantiser: Quantiser,
        quick: Judge,
        judge: Judge,
        sample: Pictures,
        cache: CalibrationCache,
        key: dict[str, Any],
        say: Say,
    ) -> None:
        self._graph, self._contract, self._statistics, self._quantiser = graph, contract, statistics, quantiser
        self._quick, self._judge, self._sample = quick, judge, sample
        self._cache, self._key, self._say = cache, key, say
        self._steps: list[Step] = []

    def run(self, calibrator: str, quantise_heads: bool = False) -> Calibrated:
        """Raises AccuracyGateFailed, with all steps in its message, where no model holds the gate and is still worth its INT8."""
        check_calibrator(calibrator)
        best = self._first(calibrator, self._graph.floating(quantise_heads))
        verdict = self._judged(best, "calibrated")
        if not verdict.holds and calibrator == "auto":
            refined = self._pose(best)
            again = self._judged(refined, "ranges chosen by their poses")
            best, verdict = (refined, again) if again.holds or again.oks > verdict.oks else (best, verdict)
        if not verdict.holds:
            best = self._put_back(best)
        return Calibrated(best, self._model(best), tuple(self._steps))

    def _first(self, calibrator: str, floating: frozenset[str]) -> Candidate:
        """The asked calibrator's ranges; for `auto` and `pose`, those of the best by OKS on the calibration pictures."""
        if calibrator in CALIBRATORS:
            return Candidate(calibrator, CALIBRATORS[calibrator](self._statistics), floating)
        key = {**self._key, "kind": "choice", "calibrators": list(CALIBRATORS), **self._settings(floating)}
        tried = json.loads((self._cache.entry(key, lambda place: self._choose(floating, place)) / "tried.json").read_text())
        self._steps = [Step(**{**step, "floating": tuple(step["floating"]), "verdict": Verdict(**step["verdict"])}) for step in tried]
        name = max(self._steps, key=lambda step: step.verdict.oks).calibrator
        best = Candidate(name, CALIBRATORS[name](self._statistics), floating)
        return self._pose(best) if calibrator == "pose" else best

    def _choose(self, floating: frozenset[str], place: Path) -> None:
        for name, ranges_of in CALIBRATORS.items():
            self._tried(Candidate(name, ranges_of(self._statistics), floating), "calibrator tried")
        (place / "tried.json").write_text(json.dumps([asdict(step) for step in self._steps]))

    def _pose(self, start: Candidate) -> Candidate:
        """Group by group, in the order of computation, takes the percentile whose poses agree best with floating point."""
        tensors = self._statistics.tensors
        options = [percentile(self._statistics, percent) for percent in PERCENTILES]
        best = replace(start, calibrator="pose")
        score = self._tried(best, "start of the pose calibrator").oks
        for number, group in enumerate(np.array_split(np.arange(len(tensors)), min(_TENSOR_GROUPS, len(tensors)))):
            names = [tensors[i] for i in group]
            for percent, option in zip(PERCENTILES, options, strict=True):
                ranges = {**best.ranges, **{name: option[name] for name in names}}
                if ranges == best.ranges:
                    continue
                candidate = Candidate("pose", ranges, best.floating)
                found = self._tried(candidate, f"tensors {number + 1}/{_TENSOR_GROUPS} at {percent:g} %").oks
                if found > score:
                    best, score = candidate, found
        return best

    def _put_back(self, start: Candidate) -> Candidate:
        """Gives layers back to floating point, the worst group first, until the gate holds. Raises AccuracyGateFailed."""
        self._say("rank layers by what each costs alone")
        ranked = ranked_layers(self._graph, self._statistics, start.ranges, start.floating, self._contract, self._sample)
        size = -(-len(ranked) // _PUT_BACK_STEPS)
        floating = start.floating
        for first in range(0, len(ranked), size):
            group = ranked[first : first + size]
            floating = floating | {name for name, _ in group}
            if self._graph.int8_share(floating) < _LEAST_INT8_SHARE:
                break
            candidate = replace(start, floating=floating)
            worst = ", ".join(name for name, _ in group[:3])
            if self._judged(candidate, f"{len(group)} layers back to floating point ({worst}{', ...' if len(group) > 3 else ''})").holds:
                return candidate
        raise AccuracyGateFailed(f"the gate ({self._judge.gate}) does not hold: {told(self._steps)}")

    def _tried(self, candidate: Candidate, action: str) -> Verdict:
        """On a few calibration pictures; the model is not kept."""
        self._say(f"try: {candidate.calibrator}, {action}")
        with tempfile.TemporaryDirectory(prefix="edgepose-try-") as scratch:
            self._quantiser.write(candidate.ranges, candidate.floating, Path(scratch))
            return self._step(candidate, action, self._quick, Path(scratch) / "model.onnx", True)

    def _judged(self, candidate: Candidate, action: str) -> Verdict:
        self._say(f"judge: {candidate.calibrator}, {action}")
        return self._step(candidate, action, self._judge, self._model(candidate), False)

    def _model(self, candidate: Candidate) -> Path:
        """Its file, kept in the cache."""
        key = {**self._key, "kind": "int8", "ranges": _digest(candidate.ranges), **self._settings(candidate.floating)}
        return self._cache.entry(key, lambda place: self._quantiser.write(candidate.ranges, candidate.floating, place)) / "model.onnx"

    def _settings(self, floating: frozenset[str]) -> dict[str, Any]:
        return {"seven_bits": self._quantiser.seven_bits, "floating": sorted(floating)}

    def _step(self, candidate: Candidate, action: str, judge: Judge, model: Path, quick: bool) -> Verdict:
        with closing(self._quantiser.open(model, quick)) as engine:
            verdict = judge.verdict(engine)
        share = self._graph.int8_share(candidate.floating)
        self._steps.append(Step(action, candidate.calibrator, tuple(sorted(candidate.floating)), share, quick, verdict))
        return verdict


def check_calibrator(name: str) -> None:
    """Raises ConfigError for an unknown calibrator."""
    if name not in CALIBRATOR_NAMES:
        raise ConfigError(
            f"calibrator {name!r} is unknown{did_you_mean(name, list(CALIBRATOR_NAMES))}: available are {', '.join(CALIBRATOR_NAMES)}"
        )


def told(steps: list[Step] | tuple[Step, ...]) -> str:
    """The gate's steps in one line."""
    return "; ".join(f"{s.calibrator}, {s.action}, {s.int8_share:.0%} INT8: {s.verdict}" for s in steps if not s.quick)


def _digest(ranges: Ranges) -> str:
    return hashlib.sha256(json.dumps(ranges, sort_keys=True).encode()).hexdigest()
