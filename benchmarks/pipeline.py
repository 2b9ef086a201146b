"""The whole pipeline against its parts: how near it comes to the throughput that the CPU time of its stages allows.

Every round measures each stage alone, the engine alone, the pipeline on frames in memory and on the file, and the plain loop that does one
thing after the other, in turns of a few seconds; ratios are taken within a round, and the median of the rounds is told. A machine that is
slow for a while is slow for all of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.benchmarks.engine import pictures_per_second
from edgepose.benchmarks.power import EnergyMeter, PowerState, power_state
from edgepose.benchmarks.replay import ReplayEngine, recorded_maps
from edgepose.benchmarks.turn import Distribution, Turn, distribution_of, turn_of
from edgepose.engines.bundle import Bundle
from edgepose.engines.engine import Engine, Execution
from edgepose.engines.errors import ConfigError, InferenceFailed, SourceError
from edgepose.engines.registry import open_engine
from edgepose.runtime.ffmpeg_link import without_password
from edgepose.runtime.inferences import Times
from edgepose.runtime.paf import PafParser
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sinks import JsonLinesSink
from edgepose.runtime.sources import Frame, Source, open_source

Moments = tuple[int, Times]
"""When a frame was captured, and its times."""
_KEPT_FRAMES = 60
_NEAR_MAPS = 0.05
"""Of maps of the same network compiled for latency: INT8 rounds elsewhere."""
_STAGE_SHARE = 0.25
"""Of a turn's length, for each stage alone."""
STAGES = ("waiting for the engine", "preprocessing", "inference", "parsing")


@dataclass(frozen=True, slots=True)
class Round:
    """CPU milliseconds a frame of each stage alone, and the turns; `overhead_us` is what the pipeline itself costs a frame in CPU time."""

    decode_ms: float
    preprocess_ms: float
    parse_ms: float
    overhead_us: float
    engine: Turn
    memory: Turn
    file: Turn
    sequential: Turn

    def bound(self, cores: int, decoding: bool, on_cpu: bool) -> float:
        """Frames a second that no pipeline of these stages exceeds: all cores busy with nothing else, or the engine where it is another
        device's."""
        host_ms = self.preprocess_ms + self.parse_ms + (self.decode_ms if decoding else 0)
        if on_cpu:
            return 1e3 * cores / (host_ms + self.engine.cpu_ms)
        return min(self.engine.per_second, 1e3 * cores / (host_ms + self.engine.cpu_ms))


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """Medians over the rounds. `efficiency` is the pipeline's throughput over the engine's alone, `efficiency_of_bound` that over the
    bound; `speedup` is over the plain loop. `single_ms` is one inference by the engine opened for latency, nothing beside it. Latencies
    are those of the last round on the file, `millijoules` a frame of all of them on the file, where the system tells. `power` is before and
    after. `timeline` has the last round's frames on the file: nanoseconds at which each was captured, taken, started, ready and found.
    """

    bundle: str
    execution: Execution
    source: str
    slots: int
    cores: int
    engine_fps: float
    memory_fps: float
    file_fps: float
    sequential_fps: float
    bound_memory_fps: float
    bound_file_fps: float
    efficiency_memory: float
    efficiency_file: float
    efficiency_of_bound_memory: float
    efficiency_of_bound_file: float
    speedup: float
    cpu_ms: dict[str, float]
    overhead_us: float
    single_ms: Distribution
    latencies: dict[str, Distribution]
    peak_memory_mib: float
    energy_source: str | None
    millijoules: float | None
    power: tuple[PowerState, PowerState]
    timeline: tuple[tuple[int, ...], ...]
    rounds: tuple[Round, ...]


def pipeline_report(
    bundle: Bundle,
    source: str,
    device: str,
    slots: int,
    rounds: int,
    seconds: float,
    parameters: PafParameters | None = None,
    tick: Callable[[], object] = lambda: None,
) -> PipelineReport:
    """Opens the bundle's engine with `slots` in flight and once more with one; `tick` after each of `rounds`.

    Raises SourceError for a source that is live or empty, InferenceFailed where pipeline and plain loop find different people.
    """
    video, frames = kept_frames(source)
    if bundle.manifest.batch not in (1, "dynamic"):
        raise ConfigError(f"{bundle.path}: made for batches of {bundle.manifest.batch}: wanted one picture, as the plain loop takes them")
    with ExitStack() as stack:
        engine, alone = (open_engine(bundle, device, n) for n in (slots, 1))
        stack.callback(engine.close)
        stack.callback(alone.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgepose-bench-")))
        bench = _Bench(engine, alone, frames, video, parameters, folder)
        bench.check()
        before = power_state()
        measured = []
        for _ in range(rounds):
            measured.append(bench.round(seconds))
            tick()
        return _report(bundle.path.name, source, engine, measured, bench, (before, power_state()))


def kept_frames(source: str) -> tuple[Source, list[Frame]]:
    """A file or folder, and its first frames in memory. Raises SourceError for a live or empty one."""
    opened = open_source(source)
    frames = [] if opened.is_live else list(islice(opened.frames(), _KEPT_FRAMES))
    if not frames:
        raise SourceError(f"{without_password(source)}: wanted a file or a folder with at least one picture")
    return opened, frames


class Looped:
    """A source's frames without end."""

    is_live = False
    count = None

    def __init__(self, frames: Callable[[], Iterator[Frame]], is_video: bool = True, fps: Fraction | None = None) -> None:
        self._frames, self.is_video, self.fps = frames, is_video, fps

    def frames(self) -> Iterator[Frame]:
        while True:
            yield from self._frames()


class _Bench:
    def __init__(
        self, engine: Engine, alone: Engine, frames: list[Frame], video: Source, parameters: PafParameters | None, folder: Path
    ) -> None:
        self._engine, self._alone, self._frames, self._parameters, self._folder = engine, alone, frames, parameters, folder
        self._parser = PafParser(engine.contract.skeleton, parameters)
        self._maps = recorded_maps(engine, frames)
        self._memory = Looped(lambda: (Frame(f.picture, f.name, f.index, f.time_s) for f in frames), video.is_video)
        self._file = Looped(video.frames, video.is_video)
        self.timeline = np.empty((0, len(STAGES) + 1), np.int64)
        self.meter = EnergyMeter()
        self.millijoules: list[float] = []
        self.single_ms: list[float] = []

    def check(self) -> None:
        """The pipeline finds the people that the plain loop finds, and somebody."""
        people = 0
        with Pipeline(self._engine, [self._memory], parameters=self._parameters) as pipeline:
            for result, maps, alone in zip(pipeline, self._maps, recorded_maps(self._alone, self._frames), strict=False):
                wanted = self._parser.parse(maps.heatmaps[0], maps.pafs[0])
                near = all(np.allclose(getattr(maps, side), getattr(alone, side), atol=_NEAR_MAPS) for side in ("heatmaps", "pafs"))
                if not (near and np.array_equal(wanted.scores, result.poses.scores)):
                    raise InferenceFailed(f"{result.frame.name}: the pipeline finds other people than the engine alone: nothing is timed")
                people += len(wanted)
        if not people:
            raise InferenceFailed("the network finds nobody in these pictures: give some with people, so that parsing is measured too")

    def round(self, seconds: float) -> Round:
        short = seconds * _STAGE_SHARE
        decode, preprocess, parse = self._decode(short), self._preprocess(short), self._parse(short)
        self._single(short)
        engine = self._engine_alone(seconds)
        memory, _ = self._pipeline(self._engine, self._memory, seconds)
        file, moments = self._pipeline(self._engine, self._file, seconds, self.meter)
        if self.meter.joules is not None:
            self.millijoules.append(1e3 * self.meter.joules / file.count)
        sequential = self._sequential(seconds)
        replay = ReplayEngine(self._engine.contract, self._maps, len(self._engine.slots))
        hollow, _ = self._pipeline(replay, self._memory, seconds)
        overhead_us = 1e3 * (hollow.cpu_ms - preprocess.cpu_ms - parse.cpu_ms)
        self.timeline = _timeline(moments)
        return Round(decode.cpu_ms, preprocess.cpu_ms, parse.cpu_ms, overhead_us, engine, memory, file, sequential)

    def _decode(self, seconds: float) -> Turn:
        frames = self._file.frames()
        return turn_of(lambda: next(frames), seconds)

    def _preprocess(self, seconds: float) -> Turn:
        room, contract = np.zeros_like(self._engine.slots[0].pictures[0]), self._engine.contract.input
        frames = self._memory.frames()
        return turn_of(lambda: fit_into(room, next(frames).picture, contract), seconds)

    def _parse(self, seconds: float) -> Turn:
        stride, kept = self._engine.contract.output.stride, cycle(self._maps)

        def parse() -> None:
            maps = next(kept)
            poses = self._parser.parse(maps.heatmaps[0], maps.pafs[0])
            poses.moved(poses.keypoints[..., :2].astype(np.float64) * stride)

        return turn_of(parse, seconds)

    def _single(self, seconds: float) -> None:
        slot = self._alone.slots[0]

        def infer() -> None:
            began = time.perf_counter()
            slot.start()
            slot.wait()
            self.single_ms.append(1e3 * (time.perf_counter() - began))

        turn_of(infer, seconds)

    def _engine_alone(self, seconds: float) -> Turn:
        cpu, began = time.process_time(), time.perf_counter()
        rate = pictures_per_second(self._engine, seconds)
        took, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        count = round(rate * took)
        return Turn(count, count / rate, 1e3 * cpu_s / count)

    def _pipeline(
        self, engine: Engine, source: Source, seconds: float, meter: AbstractContextManager[object] | None = None
    ) -> tuple[Turn, list[Moments]]:
        """In the steady state, with every result written as JSON Lines."""
        moments: list[Moments] = []
        with Pipeline(engine, [source], parameters=self._parameters) as pipeline, self._sink("pipeline") as sink:
            stream = iter(pipeline)

            def take() -> None:
                result = next(stream)
                sink.write(result.frame, result.poses)
                moments.append((result.frame.captured_ns, result.times))

            for _ in range(3 * len(engine.slots)):
                take()
            moments.clear()
            with meter or nullcontext():
                turn = turn_of(take, seconds, 0)
        return turn, moments

    def _sequential(self, seconds: float) -> Turn:
        """Read, preprocess, infer with all cores on one picture, parse, write."""
        slot, contract, frames = self._alone.slots[0], self._alone.contract, self._file.frames()
        with self._sink("sequential") as sink:

            def step() -> None:
                frame = next(frames)
                place = fit_into(slot.pictures[0], frame.picture, contract.input)
                slot.start()
                maps = slot.wait()
                poses = self._parser.parse(maps.heatmaps[0], maps.pafs[0])
                xy = poses.keypoints[..., :2].astype(np.float64) * contract.output.stride
                sink.write(frame, poses.moved(place.picture_from_network(xy)))

            return turn_of(step, seconds, 3)

    def _sink(self, name: str) -> JsonLinesSink:
        return JsonLinesSink(self._folder / f"{name}.jsonl", self._engine.contract.skeleton)


def _timeline(moments: Sequence[Moments]) -> NDArray[np.int64]:
    """(frames, 5) nanoseconds since the first was captured."""
    points = [(captured_ns, times.taken, times.started, times.ready, times.found) for captured_ns, times in moments]
    return np.array(points, np.int64) - points[0][0]


def _latencies(timeline: NDArray[np.int64]) -> dict[str, Distribution]:
    """Milliseconds of each stage and from capture to people."""
    steps = np.diff(timeline, axis=1) / 1e6
    stages = {name: distribution_of(steps[:, i].tolist()) for i, name in enumerate(STAGES)}
    return {**stages, "capture to people": distribution_of(steps.sum(1).tolist())}


def _report(
    name: str, source: str, engine: Engine, rounds: list[Round], bench: _Bench, power: tuple[PowerState, PowerState]
) -> PipelineReport:
    cores, on_cpu = len(os.sched_getaffinity(0)), engine.execution.device.startswith("CPU")

    def middle(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    def bound(r: Round, decoding: bool) -> float:
        return r.bound(cores, decoding, on_cpu)

    return PipelineReport(
        bundle=name,
        execution=engine.execution,
        source=Path(source).name,
        slots=len(engine.slots),
        cores=cores,
        engine_fps=middle(lambda r: r.engine.per_second),
        memory_fps=middle(lambda r: r.memory.per_second),
        file_fps=middle(lambda r: r.file.per_second),
        sequential_fps=middle(lambda r: r.sequential.per_second),
        bound_memory_fps=middle(lambda r: bound(r, False)),
        bound_file_fps=middle(lambda r: bound(r, True)),
        efficiency_memory=middle(lambda r: r.memory.per_second / r.engine.per_second),
        efficiency_file=middle(lambda r: r.file.per_second / r.engine.per_second),
        efficiency_of_bound_memory=middle(lambda r: r.memory.per_second / bound(r, False)),
        efficiency_of_bound_file=middle(lambda r: r.file.per_second / bound(r, True)),
        speedup=middle(lambda r: r.file.per_second / r.sequential.per_second),
        cpu_ms={
            "decoding": middle(lambda r: r.decode_ms),
            "preprocessing": middle(lambda r: r.preprocess_ms),
            "inference": middle(lambda r: r.engine.cpu_ms),
            "parsing": middle(lambda r: r.parse_ms),
            "whole pipeline, memory": middle(lambda r: r.memory.cpu_ms),
            "whole pipeline, file": middle(lambda r: r.file.cpu_ms),
            "plain loop, file": middle(lambda r: r.sequential.cpu_ms),
        },
        overhead_us=middle(lambda r: r.overhead_us),
        single_ms=distribution_of(bench.single_ms),
        latencies=_latencies(bench.timeline),
        peak_memory_mib=_peak_memory_mib(),
        energy_source=bench.meter.source,
        millijoules=statistics.median(bench.millijoules) if bench.millijoules else None,
        power=power,
        timeline=tuple(map(tuple, bench.timeline.tolist())),
        rounds=tuple(rounds),
    )


def _peak_memory_mib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
