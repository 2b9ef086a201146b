"""The pipeline's benchmark: its bound is arithmetic, its turns are steady, and nothing is timed that finds other people."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgepose.benchmarks import pipeline as benchmark
from edgepose.benchmarks.page import page
from edgepose.benchmarks.pipeline import Looped, Round, pipeline_report
from edgepose.benchmarks.replay import ReplayEngine, recorded_maps
from edgepose.benchmarks.turn import Turn, distribution_of, turn_of
from edgepose.engines.bundle import open_bundle
from edgepose.engines.engine import Engine, Maps
from edgepose.engines.errors import InferenceFailed, SourceError
from edgepose.engines.registry import open_engine
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sources import Frame, open_source


def test_the_bound_is_what_busy_cores_can_do() -> None:
    turn = Turn(100, 1.0, 8.0)
    each = Round(4.0, 1.0, 1.0, 0.0, turn, turn, turn, turn)
    assert each.bound(2, decoding=False, on_cpu=True) == pytest.approx(200)
    assert each.bound(2, decoding=True, on_cpu=True) == pytest.approx(2000 / 14)
    assert each.bound(4, decoding=True, on_cpu=False) == 100, "the device's own speed, where the host could do more"


def test_a_turn_counts_what_was_done_after_the_warm_up() -> None:
    done: list[int] = []
    turn = turn_of(lambda: done.append(1), 0.01, warm_up=3)
    assert turn.count == len(done) - 3 > 0
    assert turn.seconds >= 0.01 and turn.per_second == turn.count / turn.seconds
    assert turn_of(lambda: None, 0, 0).count == 1


def test_a_distribution_is_that_of_its_values() -> None:
    found = distribution_of(list(range(1, 102)))
    assert asdict(found) == {"n": 101, "mean": 51, "p50": 51, "p90": 91, "p99": 100, "max": 101}


def test_every_part_of_a_real_pipeline_is_measured(painted_bundles: dict[str, Path], painted_pictures: list[Path]) -> None:
    rounds: list[None] = []
    folder = str(painted_pictures[0].parent)
    report = pipeline_report(open_bundle(painted_bundles["ov-fp32"]), folder, "CPU", 2, 3, 0.05, tick=lambda: rounds.append(None))
    assert len(rounds) == len(report.rounds) == 3
    assert (report.slots, report.source) == (2, Path(folder).name)
    assert min(report.engine_fps, report.memory_fps, report.file_fps, report.sequential_fps) > 0
    assert min(report.cpu_ms.values()) > 0 and 0 < report.single_ms.p50 <= report.single_ms.max
    assert report.efficiency_file == sorted(r.file.per_second / r.engine.per_second for r in report.rounds)[1]
    assert report.speedup == sorted(r.file.per_second / r.sequential.per_second for r in report.rounds)[1]
    parts = [report.latencies[name].mean for name in benchmark.STAGES]
    assert sum(parts) == pytest.approx(report.latencies["capture to people"].mean)
    shown = page(report, {"processor": "<one>"})
    assert shown.count("<svg") == 4 and "&lt;one&gt;" in shown and "http" not in re.sub(r"<svg.*?</svg>", "", shown, flags=re.DOTALL)
    assert json.loads(json.dumps(asdict(report)))["rounds"][0]["engine"]["count"] > 0


def test_nothing_is_timed_where_the_pipeline_finds_other_people(
    painted_bundles: dict[str, Path], painted_pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(engine: Engine, frames: Sequence[Frame]) -> list[Maps]:
        return [Maps(np.zeros_like(maps.heatmaps), maps.pafs) for maps in recorded_maps(engine, frames)]

    monkeypatch.setattr(benchmark, "recorded_maps", empty)
    with pytest.raises(InferenceFailed, match="finds other people"):
        pipeline_report(open_bundle(painted_bundles["ov-fp32"]), str(painted_pictures[0].parent), "CPU", 2, 1, 0.01)


def test_a_live_source_cannot_be_measured_against_memory(painted_bundles: dict[str, Path]) -> None:
    with pytest.raises(SourceError, match="wanted a file"):
        pipeline_report(open_bundle(painted_bundles["ov-fp32"]), "test:pattern?width=64&height=64", "CPU", 2, 1, 0.01)


def test_a_replayed_engine_gives_the_people_of_the_real_one(painted_bundles: dict[str, Path], painted_pictures: list[Path]) -> None:
    engine = open_engine(painted_bundles["ov-fp32"], "CPU", 2)
    source = open_source(painted_pictures[0].parent)
    frames = list(source.frames())
    replay = ReplayEngine(engine.contract, recorded_maps(engine, frames), 2)
    with Pipeline(replay, [Looped(source.frames)]) as pipeline:
        hollow = [result.poses.keypoints for result, _ in zip(pipeline, frames, strict=False)]
    with Pipeline(engine, [source]) as pipeline:
        real = [result.poses.keypoints for result in pipeline]
    engine.close()
    for a, b in zip(hollow, real, strict=True):
        np.testing.assert_array_equal(a, b)
