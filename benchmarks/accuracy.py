"""How well a bundle finds people: COCO accuracy on labelled pictures, and agreement with another bundle without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgepose.calibration.coco import CocoAccuracy, CocoEvaluation, CocoLabels
from edgepose.calibration.oks import agreement
from edgepose.engines.engine import Engine
from edgepose.engines.errors import ConfigError
from edgepose.engines.registry import open_engine
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import picture_from_file

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """COCO accuracy of a bundle as it really ran; `lost` is the first bundle's AP less its own, `lost_error` the standard error of that."""

    bundle: str
    execution: str
    input_hw: tuple[int, int]
    parameters: dict[str, object]
    accuracy: CocoAccuracy
    lost: float
    lost_error: float


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """How the people found by `other` match those found by `reference`; OKS of a missed person counts as 0."""

    reference: str
    other: str
    pictures: int
    persons: int
    oks_mean: float
    oks_median: float
    missed: int
    extra: int


def coco_accuracy(
    bundles: Sequence[Path], labels: CocoLabels, parameters: PafParameters, device: str = "auto", tick: Callable[[], object] = lambda: None
) -> list[AccuracyReport]:
    """Runs the bundles on the labelled pictures; `tick` after each picture."""
    for later in bundles[1:]:
        open_engine(later, device, 2).close()  # one that this machine cannot run shall not cost the time of those before it
    reports: list[AccuracyReport] = []
    first: CocoEvaluation | None = None
    for bundle in bundles:
        engine = open_engine(bundle, device, 2)
        try:
            poses = {}
            for image, people in found(engine, parameters, ((path, image) for image, path in labels.pictures.items())):
                poses[image] = people
                tick()
            contract, execution = engine.contract, str(engine.execution)
        finally:
            engine.close()
        evaluation = labels.evaluation(poses, contract.skeleton)
        first = first or evaluation
        size, loss = (contract.input.height, contract.input.width), (evaluation.lost(first), evaluation.lost_error(first))
        reports.append(AccuracyReport(bundle.name, execution, size, parameters.model_dump(), evaluation.accuracy, *loss))
    return reports


def bundle_agreement(
    reference: Path, other: Path, pictures: list[Path], parameters: PafParameters, device: str = "auto", least_score: float = 0
) -> AgreementReport:
    """Runs both bundles on the pictures. People of the reference below `least_score` are not asked for.

    Raises ConfigError for other skeletons, and where the reference finds nobody.
    """
    engines = open_engine(reference, device, 2), open_engine(other, device, 2)
    try:
        skeleton = engines[0].contract.skeleton
        if engines[1].contract.skeleton != skeleton:
            raise ConfigError(f"{other}: its skeleton is not that of {reference}: poses cannot be compared")
        wanted, got = ([poses for _, poses in found(engine, parameters, ((p, p) for p in pictures))] for engine in engines)
    finally:
        for engine in engines:
            engine.close()
    result = agreement([poses.above(least_score) for poses in wanted], got, skeleton)
    if not result.oks:
        whom = f"nobody of score {least_score:g} or more" if least_score else "nobody"
        raise ConfigError(f"{reference}: finds {whom} in these pictures: give some with people")
    oks = np.array(result.oks)
    return AgreementReport(
        reference.name, other.name, len(pictures), len(result.oks), float(oks.mean()), float(np.median(oks)), result.missed, result.extra
    )


def found(engine: Engine, parameters: PafParameters, pictures: Iterable[tuple[Path, T]]) -> Iterator[tuple[T, Poses]]:
    """(file, anything) -> (that thing, the people in the file's picture)."""
    yield from PoseEstimator(engine, parameters).estimate_all((picture_from_file(path), companion) for path, companion in pictures)
