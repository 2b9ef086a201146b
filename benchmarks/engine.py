"""Engines alone: throughput of several bundles in one run, taking turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import math
import operator
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.calibration.oks import agreement
from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import BackendUnavailable, ConfigError, InferenceFailed
from edgepose.engines.registry import open_engine
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.poses import Poses
from edgepose.runtime.sources import picture_from_file


@dataclass(frozen=True, slots=True)
class EngineCase:
    """One bundle: pictures a second in each turn, their median and best, and `multiple`, the median over the turns of its rate over the
    first bundle's. `shares` are the parts of the executed multiplications by arithmetic; `oks` is how well its people agree with the
    first bundle's, a missed one counting 0."""

    bundle: str
    target: str
    execution: Execution
    shares: dict[str, float]
    persons: int
    oks: float
    per_second: tuple[float, ...]
    median: float
    best: float
    multiple: float
    benchmark_app: tuple[float, ...]
    of_benchmark_app: float | None


def engine_cases(
    bundles: Sequence[Path],
    pictures: Sequence[Path],
    device: str,
    slots: int,
    turns: int,
    seconds: float,
    tick: Callable[[], object],
    beside_benchmark_app: bool = False,
) -> list[EngineCase]:
    """Looks at what each engine finds on `pictures`, then times all; `tick` is called after each of the `turns` of `seconds` each.

    `beside_benchmark_app` has OpenVINO's own benchmark_app run each IR in every turn too. Raises ConfigError for bundles of unlike
    networks, InferenceFailed for maps that are not finite, BackendUnavailable.
    """
    opened = [open_bundle(path) for path in bundles]
    check_alike(opened)
    with ExitStack() as stack:
        engines = [open_engine(bundle, device, slots) for bundle in opened]
        for engine in engines:
            stack.callback(engine.close)
        found = [_people(engine, pictures) for engine in engines]
        rates: list[list[float]] = [[] for _ in engines]
        theirs: list[list[float]] = [[] for _ in engines]
        for _ in range(turns):
            for bundle, engine, rate, their in zip(opened, engines, rates, theirs, strict=True):
                rate.append(pictures_per_second(engine, seconds))
                if beside_benchmark_app:
                    their.append(benchmark_app_rate(bundle, engine.execution.device, slots, seconds))
            tick()
    cases = []
    for bundle, engine, people, rate, their in zip(opened, engines, found, rates, theirs, strict=True):
        agreed = agreement(found[0], people, bundle.contract.skeleton)
        cases.append(
            EngineCase(
                bundle=bundle.path.name,
                target=bundle.target.name,
                execution=engine.execution,
                shares=engine.execution.shares,
                persons=sum(map(len, people)),
                oks=float(np.mean(agreed.oks)) if agreed.oks else float(not agreed.extra),
                per_second=tuple(rate),
                median=statistics.median(rate),
                best=max(rate),
                multiple=statistics.median(mine / first for mine, first in zip(rate, rates[0], strict=True)),
                benchmark_app=tuple(their),
                of_benchmark_app=statistics.median(map(operator.truediv, rate, their)) if their else None,
            )
        )
    return cases


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Raises ConfigError for bundles of unlike networks."""
    first = bundles[0].contract
    for bundle in bundles[1:]:
        if bundle.contract.input != first.input or bundle.contract.skeleton != first.skeleton:
            raise ConfigError(f"{bundle.path} sees other pictures than {bundles[0].path}: wanted bundles of one network at one input size")


def _people(engine: Engine, pictures: Sequence[Path]) -> list[Poses]:
    """Leaves a picture in every slot that the pictures suffice for."""
    found = [poses for _, poses in PoseEstimator(engine).estimate_all((picture_from_file(path), None) for path in pictures)]
    for slot in engine.slots:
        slot.start()
        maps = slot.wait()
        if not (np.isfinite(maps.heatmaps).all() and np.isfinite(maps.pafs).all()):
            raise InferenceFailed(f"{engine.execution}: its maps are not finite, so nothing is timed: export the bundle again")
    return found


def benchmark_app_rate(bundle: Bundle, device: str, slots: int, seconds: float) -> float:
    """Pictures a second of OpenVINO's own tool on the bundle's IR, with as many requests and in the same arithmetic.

    Raises BackendUnavailable where it is not there or does not run; it knows whole seconds only.
    """
    tool = Path(sys.executable).with_name("benchmark_app")
    if bundle.target.backend != "openvino" or not tool.is_file():
        raise BackendUnavailable(f"{tool} on {bundle.path.name}: wanted OpenVINO's benchmark_app (pip install openvino) and ov-* bundles")
    arithmetic = ["-infer_precision", "f32"] if bundle.target.precision in ("fp32", "fp16") else []
    hint = "latency" if slots == 1 else "throughput"
    options = ["-d", device, "-hint", hint, "-nireq", str(slots), "-t", str(math.ceil(seconds)), *arithmetic]
    ran = subprocess.run([str(tool), "-m", str(bundle.model_path), *options], capture_output=True, text=True, check=False)
    told = re.search(r"Throughput:\s+([\d.]+) FPS", ran.stdout)
    if not told:
        raise BackendUnavailable(f"benchmark_app did not run: {(ran.stderr or ran.stdout).strip().splitlines()[-1:]}")
    return float(told[1])


def pictures_per_second(engine: Engine, seconds: float) -> float:
    """Pictures a second with all slots in flight, after one untimed round of the ring."""
    ring = engine.slots
    for slot in ring:
        slot.start()
    for slot in ring:
        slot.wait()
        slot.start()
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        slot = ring[done % len(ring)]
        slot.wait()
        slot.start()
        done += 1
    took = time.perf_counter() - begin
    for slot in ring:
        slot.wait()
    return done * len(ring[0].pictures) / took
