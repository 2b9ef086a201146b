"""How many inferences in flight are best for a bundle on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edgepose.benchmarks.pipeline import Looped, kept_frames
from edgepose.benchmarks.turn import turn_of
from edgepose.engines.bundle import Bundle
from edgepose.engines.engine import Engine
from edgepose.engines.registry import open_engine
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sources import Frame

_AS_GOOD = 0.98


@dataclass(frozen=True, slots=True)
class SweepCase:
    """Frames a second of the pipeline on frames in memory, and milliseconds from the start of an inference to its maps: medians."""

    slots: int
    frames_per_second: float
    inference_ms: float


def sweep_cases(
    bundle: Bundle, source: str, device: str, slots: Sequence[int], rounds: int, seconds: float, tick: Callable[[], object]
) -> tuple[list[SweepCase], str]:
    """In turns, and what runs. Raises SourceError for a live or empty source."""
    _, frames = kept_frames(source)
    with ExitStack() as stack:
        engines = [open_engine(bundle, device, count) for count in slots]
        for engine in engines:
            stack.callback(engine.close)
        turns: list[list[tuple[float, float]]] = [[] for _ in engines]
        for _ in range(rounds):
            for engine, found in zip(engines, turns, strict=True):
                found.append(_turn(engine, frames, seconds))
                tick()
        backend = engines[0].execution.backend
    medians = [tuple(map(statistics.median, zip(*found, strict=True))) for found in turns]
    return [SweepCase(count, fps, ms) for count, (fps, ms) in zip(slots, medians, strict=True)], backend


def best_case(cases: Sequence[SweepCase]) -> SweepCase:
    """The fewest slots of those within 2 % of the most frames a second: more only make results older."""
    most = max(case.frames_per_second for case in cases)
    return min((case for case in cases if case.frames_per_second >= _AS_GOOD * most), key=lambda case: case.slots)


def _turn(engine: Engine, frames: list[Frame], seconds: float) -> tuple[float, float]:
    """(frames a second, median milliseconds of an inference)."""
    source, taken = Looped(lambda: (Frame(f.picture, f.name, f.index, f.time_s) for f in frames)), []
    with Pipeline(engine, [source]) as pipeline:
        stream = iter(pipeline)

        def take() -> None:
            times = next(stream).times
            taken.append((times.ready - times.started) / 1e6)

        turn = turn_of(take, seconds, 3 * len(engine.slots))
    return turn.per_second, statistics.median(taken)
