"""Live sources for minutes on end: how old results are, whether they grow older, who gets how much of the engine, what is dropped."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.benchmarks.turn import Distribution, distribution_of
from edgepose.engines.bundle import Bundle
from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import ConfigError
from edgepose.engines.registry import open_engine
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.inferences import Times
from edgepose.runtime.intake import Policy
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sources import open_source

_BLOCKS = 60
_SETTLING = 0.2
"""The share of results that no trend counts: what is loaded and pooled at first is no growth, and an engine's first seconds are slow."""
_FEWEST = math.ceil(_BLOCKS / (1 - _SETTLING))
_LATENCY_STARTS = 40
_MIB = 2**20

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SourceCase:
    """`captured` frames of one source: `dropped` or among the `results`; `in_order` says that its results came in the order of capture."""

    source: str
    captured: int
    dropped: int
    results: int
    in_order: bool
    age_ms: Distribution | None


@dataclass(frozen=True, slots=True)
class Trend:
    """Linear over blocks of time, the first fifth left out, with its standard error and the probability of so much by chance."""

    ms_per_minute: float
    error: float
    by_chance: float

    def __str__(self) -> str:
        return f"{self.ms_per_minute:+.3f} ± {self.error:.3f} ms a minute (by chance: {self.by_chance:.2f})"


@dataclass(frozen=True, slots=True)
class LiveReport:
    """`age_ms` is from a frame's capture to its people; `waiting_ms` the same less the time from its inference's start until its maps were
    fetched, so that under `latest` a slower engine hardly changes it, and a queue would let it grow. `engine_ms` is the median latency of
    one inference with all slots in flight, before the sources started. `fairness` is the most results of a source over the fewest."""

    bundle: str
    execution: Execution
    policy: str
    slots: int
    seconds: float
    engine_ms: float
    age_ms: Distribution
    age_trend: Trend
    waiting_ms: Distribution
    waiting_trend: Trend
    fairness: float
    memory_mib_begin: float
    memory_mib_end: float
    sources: tuple[SourceCase, ...]


def live_report(
    bundle: Bundle,
    sources: Sequence[str],
    device: str,
    slots: int,
    policy: Policy,
    seconds: float | None = None,
    tick: Callable[[int], object] = lambda _: None,
) -> LiveReport:
    """Runs for `seconds`, or until every source has ended; `tick` is told how many frames are done with. Frames in flight at the end of
    `seconds` are neither dropped nor results. Raises ConfigError for too few results."""
    opened = [open_source(source) for source in sources]
    captured: list[list[int]] = [[] for _ in opened]
    ages: list[list[float]] = [[] for _ in opened]
    waits: list[list[float]] = [[] for _ in opened]
    when: list[list[float]] = [[] for _ in opened]
    memory: list[float] = []
    with closing(open_engine(bundle, device, slots)) as engine:
        engine_ms = _latency_ms(engine)
        with Pipeline(engine, opened, policy) as pipeline:
            began = time.perf_counter()
            if seconds is not None:
                timer = threading.Timer(seconds, pipeline.halt)
                timer.daemon = True
                timer.start()
            for result in pipeline:
                now, source = time.perf_counter() - began, result.source
                captured[source].append(result.frame.index)
                age, waited = age_and_waiting_ms(result.frame.captured_ns, result.times)
                ages[source].append(age)
                waits[source].append(waited)
                when[source].append(now)
                if now > len(memory):
                    memory.append(_memory_mib())
                tick(sum(map(len, captured)) + sum(count.dropped for count in pipeline.counts))
            took = time.perf_counter() - began
            counts = pipeline.counts
        execution, in_flight = engine.execution, len(engine.slots)
    seen, all_ages, all_waits = (np.concatenate(lists) for lists in (when, ages, waits))
    if len(seen) < _FEWEST:
        raise ConfigError(f"{len(seen)} results in {took:.0f} s: wanted {_FEWEST} at least: let the sources run longer")
    settled = memory[int(len(memory) * _SETTLING) :] or memory
    cases = [
        SourceCase(source, count.captured, count.dropped, len(found), found == sorted(found), distribution_of(ms) if ms else None)
        for source, count, found, ms in zip(map(without_password, sources), counts, captured, ages, strict=True)
    ]
    return LiveReport(
        bundle=bundle.path.name,
        execution=execution,
        policy=policy.value,
        slots=in_flight,
        seconds=took,
        engine_ms=engine_ms,
        age_ms=distribution_of(all_ages.tolist()),
        age_trend=trend_of(seen, all_ages),
        waiting_ms=distribution_of(all_waits.tolist()),
        waiting_trend=trend_of(seen, all_waits),
        fairness=max(case.results for case in cases) / max(1, min(case.results for case in cases)),
        memory_mib_begin=float(np.mean(settled[: max(1, len(settled) // 10)])),
        memory_mib_end=float(np.mean(settled[-max(1, len(settled) // 10) :])),
        sources=tuple(cases),
    )


def age_and_waiting_ms(captured_ns: int, times: Times) -> tuple[float, float]:
    """See `LiveReport`."""
    age = times.found - captured_ns
    return age / 1e6, (age - (times.ready - times.started)) / 1e6


def trend_of(seconds: Values, ms: Values) -> Trend:
    """Of one value for each moment, in any order."""
    from scipy.stats import linregress

    order = np.argsort(seconds, kind="stable")[int(len(seconds) * _SETTLING) :]
    blocks = [(seconds[part].mean() / 60, ms[part].mean()) for part in np.array_split(order, _BLOCKS)]
    line = linregress(*zip(*blocks, strict=True))
    return Trend(float(line.slope), float(line.stderr), float(line.pvalue))


def _latency_ms(engine: Engine) -> float:
    """Median milliseconds from an inference's start to its maps, all slots in flight."""
    started: dict[int, float] = {}
    taken = []
    for turn in range(_LATENCY_STARTS + len(engine.slots)):
        place = turn % len(engine.slots)
        slot = engine.slots[place]
        if place in started:
            slot.wait()
            taken.append(1e3 * (time.perf_counter() - started[place]))
        started[place] = time.perf_counter()
        slot.start()
    for slot in engine.slots:
        slot.wait()
    return float(np.median(taken))


def _memory_mib() -> float:
    """Resident, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB
