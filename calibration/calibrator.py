"""`Calibrator`: one network, one set of pictures, and the INT8 models made from them; everything the targets share is computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.calibration.album import Album
from edgepose.calibration.cache import CalibrationCache, default_cache
from edgepose.calibration.coco import CocoLabels
from edgepose.calibration.equalise import equalised
from edgepose.calibration.graph import NetworkGraph, network_graph
from edgepose.calibration.judge import Gate, Judge, check_judge
from edgepose.calibration.quantiser import Quantiser, saturates
from edgepose.calibration.search import Calibrated, CalibrationSearch, check_calibrator
from edgepose.calibration.source import CalibrationSet, Pictures, calibration_set
from edgepose.calibration.statistics import ActivationStatistics, statistics_of, statistics_precision
from edgepose.calibration.survey import SWAPPED_PICTURES, check_pictures, outliers
from edgepose.engines import openvino_
from edgepose.engines.bundle import record_of
from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Engine
from edgepose.engines.errors import AccuracyGateFailed
from edgepose.engines.openvino_ import engine_from_ir
from edgepose.engines.profile import processor_name
from edgepose.runtime import _paf as paf_native
from edgepose.runtime import estimator

COUNT = 200
_EQUALISING_PICTURES = 32
_QUICK_PICTURES = 24
_RANKING_PICTURES = 2
DEFAULT_GATE = Gate(min_oks=0.75)
DEFAULT_AP_GATE = Gate(max_ap_drop=0.01)
Say = Callable[[str], None]
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What a user asks of a calibration. `overflow_fix` None: where this CPU's INT8 products saturate. `report_pictures`: whether the
    report may show some of them."""

    source: str
    count: int = COUNT
    seed: int = 0
    seconds: float = 60.0
    calibrator: str = "auto"
    gate: Gate = DEFAULT_GATE
    labels: CocoLabels | None = None
    report_pictures: bool = True
    quantise_heads: bool = False
    overflow_fix: bool | None = None
    cache: Path = field(default_factory=default_cache)


class Calibrator:
    """`judged_on` are fitted pictures for a gate without labels; None: the calibration pictures themselves.

    `tick` is told (done, all) while the statistics are collected. Use as a context: the reference engine stays open until its end.
    """

    def __init__(
        self,
        onnx: Path,
        contract: ModelContract,
        batch: int,
        request: CalibrationRequest,
        judged_on: Pictures | None,
        say: Say,
        tick: Tick = lambda _, __: None,
    ) -> None:
        check_calibrator(request.calibrator)
        self._onnx, self._contract, self._batch, self._request = onnx, contract, batch, request
        self._judged_on, self._say, self._tick = judged_on, say, tick
        self._cache = CalibrationCache(request.cache)

    def __enter__(self) -> Calibrator:
        return self

    def __exit__(self, *_: object) -> None:
        if "reference" in self.__dict__:
            self.reference.close()

    def int8(self, target: str) -> Calibrated:
        """The INT8 model of `ov-int8` or `trt-int8` that holds the gate.

        Raises CalibrationError for pictures that cannot be calibrated on, AccuracyGateFailed where the gate does not hold; its message
        names the pictures that stretch the ranges.
        """
        check_pictures(self.statistics, self.pictures)
        sample = self.pictures.pictures[np.argsort(-self.statistics.people, kind="stable")[:_RANKING_PICTURES]]
        search = CalibrationSearch(
            self.graph,
            self._contract,
            self.statistics,
            self.quantiser(target),
            self.quick,
            self.judge,
            sample,
            self._cache,
            self._key,
            self._say,
        )
        try:
            return search.run(self._request.calibrator, self._request.quantise_heads)
        except AccuracyGateFailed as error:
            raise AccuracyGateFailed(". ".join([str(error), *self.outliers])) from error

    def quantiser(self, target: str) -> Quantiser:
        fix = self._request.overflow_fix
        for_openvino = target == "ov-int8"
        seven_bits = for_openvino and (saturates() if fix is None else fix)
        means = self.statistics.by_tensor(self.statistics.means)
        return Quantiser(self.graph, self._contract, self._batch, means, seven_bits, not for_openvino)

    @property
    def contract(self) -> ModelContract:
        return self._contract

    @property
    def request(self) -> CalibrationRequest:
        return self._request

    @property
    def outliers(self) -> list[str]:
        return outliers(self.statistics, self.pictures)

    @cached_property
    def graph(self) -> NetworkGraph:
        """The equalised network."""
        return network_graph(
            self._cache.entry({**self._key, "kind": "equalised", "pictures_used": _EQUALISING_PICTURES}, self._equalise) / "model.onnx"
        )

    @cached_property
    def pictures(self) -> CalibrationSet:
        request = self._request
        self._say("read calibration pictures")
        return calibration_set(request.source, self._contract.input, request.count, request.seed, request.seconds)

    @cached_property
    def statistics(self) -> ActivationStatistics:
        place = self._cache.entry({**self._key, "kind": "statistics"}, self._collect)
        return ActivationStatistics.load(place / "statistics.npz")

    @cached_property
    def reference(self) -> Engine:
        return self._open_reference()

    def _open_reference(self) -> Engine:
        return engine_from_ir(self._onnx, self._contract, "fp32", "CPU", 2, self._batch)

    @cached_property
    def judge(self) -> Judge:
        """By the gate: on labelled pictures, on pictures given for it, or on the calibration pictures."""
        self._say("floating-point poses of the gate's pictures")
        gate, labels = self._request.gate, self._request.labels
        if labels:
            judge = self._judge(labels.pictures, gate, labels)
        else:
            judge = self._judge(self.pictures.pictures if self._judged_on is None else self._judged_on, gate)
        check_judge(judge)
        return judge

    @cached_property
    def quick(self) -> Judge:
        """On a few calibration pictures, for the choice between calibrators."""
        return self._judge(self.pictures.pictures[:_QUICK_PICTURES], Gate())

    def _judge(self, pictures: Mapping[int, Path] | Pictures, gate: Gate, labels: CocoLabels | None = None) -> Judge:
        album = Album(pictures, self._cache)
        wanted = album.remembered({**self._key, "model": "floating point"}, self._open_reference)
        return Judge(album, wanted, self._contract.skeleton, gate, labels)

    @cached_property
    def _key(self) -> dict[str, Any]:
        return {
            "onnx": record_of(self._onnx).sha256,
            "pictures": self.pictures.fingerprint,
            "contract": self._contract.model_dump(mode="json"),
            "arithmetic": statistics_precision(),
            "processor": processor_name(),
            "versions": {name: version(name) for name in ("openvino", "onnxruntime", "numpy", "opencv-python-headless")},
            "method": _method(),
        }

    def _equalise(self, place: Path) -> None:
        import onnx

        raw = network_graph(self._onnx)
        pictures = self.pictures.pictures[:_EQUALISING_PICTURES]
        self._say("equalise channels")
        found = statistics_of(self._onnx, raw.tensors, self._contract, self._batch, pictures, 0)
        model, _ = equalised(raw.model, found.by_tensor(found.magnitudes))
        onnx.save(model, str(place / "model.onnx"))

    def _collect(self, place: Path) -> None:
        pictures = self.pictures.pictures
        swapped = min(SWAPPED_PICTURES, len(pictures))
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            self._tick(done, len(pictures) + swapped)

        self._say(f"statistics of {len(pictures)} pictures")
        found = statistics_of(self.graph.path, self.graph.tensors, self._contract, self._batch, pictures, swapped, tick)
        found.save(place / "statistics.npz")


def _method() -> str:
    """The digest of the code that calibrates and finds people: what another version of edgepose computed is not taken for ours."""
    digest = hashlib.sha256()
    for room in (Path(__file__).parent, *(Path(module.__file__ or "").parent for module in (estimator, openvino_))):
        for file in sorted(room.glob("*.py")):
            digest.update(file.read_bytes())
    digest.update(Path(paf_native.__file__ or "").read_bytes())
    return digest.hexdigest()
