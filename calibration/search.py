"""From statistics to the INT8 model that holds the gate: which calibrator, which layers go back to floating point, and every step told."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.calibration.album import Found
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
_JUDGED_CALIBRATORS = 2
"""The choice between calibrators is made on few pictures; what is near the best there may be better by the gate."""
_FIRST_PUT_BACK = 2
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
    """The candidate that holds the gate, its model file in the cache, whom it finds in the gate's pictures, and the way to it, whose last
    step is the verdict on it."""

    candidate: Candidate
    model: Path
    found: Found
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
        judged: list[tuple[float, Candidate]] = []
        for candidate, action in self._starts(calibrator, self._graph.floating(quantise_heads)):
            verdict = self._judged(candidate, action)
            if verdict.holds:
                return self._calibrated(candidate)
            judged.append((verdict.oks, candidate))
        return self._calibrated(self._put_back(max(judged, key=lambda pair: pair[0])[1]))

    def _starts(self, calibrator: str, floating: frozenset[str]) -> Iterator[tuple[Candidate, str]]:
        """With all layers in INT8, what the gate is asked about in turn: the calibrator that was asked for; for `auto` the two that agree
        best with floating point on the calibration pictures, then ranges chosen by their poses.
        """
        if calibrator in CALIBRATORS:
            yield self._candidate(calibrator, floating), "calibrated"
            return
        found = self._remembered("choice", {"calibrators": list(CALIBRATORS), **self._settings(floating)}, lambda: self._choice(floating))
        best = [self._candidate(name, floating) for name in found["best"]]
        if calibrator == "auto":
            yield from ((candidate, "calibrated") for candidate in best[:_JUDGED_CALIBRATORS])
        key = {"ranges": _digest(best[0].ranges), **self._settings(floating)}
        refined = self._remembered("pose", key, lambda: self._refined(best[0]))
        yield replace(best[0], calibrator="pose", ranges=_ranges(refined)), "ranges chosen by their poses"

    def _candidate(self, calibrator: str, floating: frozenset[str]) -> Candidate:
        return Candidate(calibrator, CALIBRATORS[calibrator](self._statistics), floating)

    def _calibrated(self, candidate: Candidate) -> Calibrated:
        model = self._model(candidate)
        return Calibrated(candidate, model, self._found(model, fast=False), tuple(self._steps))

    def _choice(self, floating: frozenset[str]) -> dict[str, Any]:
        """The calibrators' names, best first."""
        steps = [self._tried(self._candidate(name, floating), "calibrator tried") for name in CALIBRATORS]
        best = sorted(steps, key=lambda step: -step.verdict.oks)
        return {"steps": steps, "best": [step.calibrator for step in best]}

    def _refined(self, start: Candidate) -> dict[str, Any]:
        """Group by group, in the order of computation, takes the percentile whose poses agree best with floating point."""
        tensors = self._statistics.tensors
        options = [percentile(self._statistics, percent) for percent in PERCENTILES]
        best = replace(start, calibrator="pose")
        steps = [self._tried(best, "start of the pose calibrator")]
        score = steps[0].verdict.oks
        for number, group in enumerate(np.array_split(np.arange(len(tensors)), min(_TENSOR_GROUPS, len(tensors)))):
            names = [tensors[i] for i in group]
            for percent, option in zip(PERCENTILES, options, strict=True):
                ranges = {**best.ranges, **{name: option[name] for name in names}}
                if ranges == best.ranges:
                    continue
                steps.append(self._tried(replace(best, ranges=ranges), f"tensors {number + 1}/{_TENSOR_GROUPS} at {percent:g} %"))
                if steps[-1].verdict.oks > score:
                    best, score = replace(best, ranges=ranges), steps[-1].verdict.oks
        return {"steps": steps, "ranges": best.ranges}

    def _put_back(self, start: Candidate) -> Candidate:
        """Gives the worst layers back to floating point, twice as many at each step, until the gate holds. Raises AccuracyGateFailed."""
        key = {"ranges": _digest(start.ranges), "floating": sorted(start.floating)}
        ranked = self._remembered("ranking", key, lambda: {"steps": [], "layers": self._ranked(start)})["layers"]
        count = _FIRST_PUT_BACK
        while True:
            worst = [name for name, _ in ranked[:count]]
            candidate = replace(start, floating=start.floating | set(worst))
            if self._graph.int8_share(candidate.floating) < _LEAST_INT8_SHARE:
                raise AccuracyGateFailed(f"the gate ({self._judge.gate}) does not hold: {told(self._steps)}")
            shown = f"{', '.join(worst[:3])}{', ...' if len(worst) > 3 else ''}"
            if self._judged(candidate, f"{len(worst)} layers back to floating point ({shown})").holds:
                return candidate
            count *= 2

    def _ranked(self, start: Candidate) -> list[tuple[str, float]]:
        self._say("rank layers by what each costs alone")
        return ranked_layers(self._graph, self._statistics, start.ranges, start.floating, self._contract, self._sample)

    def _remembered(self, kind: str, key: dict[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `find` gives, from the cache where it is there; its steps are told either way."""

        def write(place: Path) -> None:
            found = find()
            steps = [asdict(step) for step in found["steps"]]
            (place / "found.json").write_text(json.dumps({**found, "steps": steps}))

        found: dict[str, Any] = json.loads((self._cache.entry({**self._key, "kind": kind, **key}, write) / "found.json").read_text())
        self._steps += [
            Step(**{**step, "floating": tuple(step["floating"]), "verdict": Verdict(**step["verdict"])}) for step in found["steps"]
        ]
        return found

    def _tried(self, candidate: Candidate, action: str) -> Step:
        """On a few calibration pictures; the model is not kept."""
        self._say(f"try: {candidate.calibrator}, {action}")
        with tempfile.TemporaryDirectory(prefix="edgepose-try-") as scratch:
            self._quantiser.write(candidate.ranges, candidate.floating, Path(scratch))
            with closing(self._quantiser.open_quick(Path(scratch) / "model.onnx")) as engine:
                return self._step(candidate, action, self._quick, self._quick.album.found_by(engine))

    def _judged(self, candidate: Candidate, action: str) -> Verdict:
        """By the gate; what is simulated slowly is simulated only where the fast engine holds the gate."""
        self._say(f"judge: {candidate.calibrator}, {action}")
        model = self._model(candidate)
        if self._quantiser.for_tensorrt:
            self._steps.append(self._step(candidate, action, self._judge, self._found(model, fast=True)))
            if not self._steps[-1].verdict.holds:
                return self._steps[-1].verdict
            self._say("judge: as TensorRT will compute it")
        self._steps.append(self._step(candidate, action, self._judge, self._found(model, fast=False)))
        return self._steps[-1].verdict

    def _model(self, candidate: Candidate) -> Path:
        """Its file, kept in the cache."""
        key = {**self._key, "kind": "int8", "ranges": _digest(candidate.ranges), **self._settings(candidate.floating)}
        return self._cache.entry(key, lambda place: self._quantiser.write(candidate.ranges, candidate.floating, place)) / "model.onnx"

    def _settings(self, floating: frozenset[str]) -> dict[str, Any]:
        quantiser = self._quantiser
        return {"seven_bits": quantiser.seven_bits, "for_tensorrt": quantiser.for_tensorrt, "floating": sorted(floating)}

    def _found(self, model: Path, fast: bool) -> Found:
        """Whom a model of the cache, which is named by what it was made from, finds in the gate's pictures."""
        key = {**self._key, "model": model.parent.name, "fast": fast}
        return self._judge.album.remembered(key, lambda: self._quantiser.open_quick(model) if fast else self._quantiser.open(model))

    def _step(self, candidate: Candidate, action: str, judge: Judge, found: Found) -> Step:
        share = self._graph.int8_share(candidate.floating)
        return Step(action, candidate.calibrator, tuple(sorted(candidate.floating)), share, judge is self._quick, judge.verdict(found))


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


def _ranges(found: dict[str, Any]) -> Ranges:
    return {tensor: (low, high) for tensor, (low, high) in found["ranges"].items()}
