"""`pose-bench live`: every frame is accounted for, and what grows is told apart from a machine that slows down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgepose.benchmarks import live
from edgepose.benchmarks.cli import app
from edgepose.benchmarks.live import age_and_waiting_ms, live_report, trend_of
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import ConfigError
from edgepose.runtime.inferences import Times
from edgepose.runtime.intake import Policy
from edgepose.runtime.sources import open_source

CAMERA = "test:pattern?fps=200&frames={}&width=64&height=48"


def test_each_frame_of_each_source_is_dropped_or_a_result(painted_bundles: dict[str, Path]) -> None:
    bundle = open_bundle(painted_bundles["ov-fp32"])

    report = live_report(bundle, [CAMERA.format(600), CAMERA.format(300)], "CPU", 2, Policy.LATEST)

    assert [case.captured for case in report.sources] == [600, 300]
    assert all(case.captured == case.dropped + case.results and case.in_order for case in report.sources)
    assert report.age_ms.n == report.waiting_ms.n == sum(case.results for case in report.sources)
    assert 0 < report.waiting_ms.mean < report.age_ms.mean


def test_a_slower_engine_makes_results_older_but_they_do_not_wait_longer() -> None:
    usual = age_and_waiting_ms(0, Times(taken=5_000_000, started=6_000_000, ready=16_000_000, found=17_000_000))
    slower = age_and_waiting_ms(0, Times(taken=5_000_000, started=6_000_000, ready=36_000_000, found=37_000_000))
    queued = age_and_waiting_ms(0, Times(taken=25_000_000, started=26_000_000, ready=36_000_000, found=37_000_000))

    assert (usual, slower, queued) == ((17, 7), (37, 7), (37, 27))


def test_a_trend_leaves_the_first_fifth_out() -> None:
    seconds = np.linspace(0, 600, 6000)
    ms = np.where(seconds < 120, 500.0, 40 + seconds / 60) + np.random.default_rng(0).normal(0, 3, 6000)

    growing, steady = trend_of(seconds, ms), trend_of(seconds, ms - seconds / 60)

    assert growing.ms_per_minute == pytest.approx(1, abs=0.1) and growing.by_chance < 1e-6
    assert abs(steady.ms_per_minute) < 3 * steady.error and steady.by_chance > 0.01


def test_too_few_results_have_no_trend(painted_bundles: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"30 results in .* wanted 75 at least"):
        live_report(open_bundle(painted_bundles["ov-fp32"]), [CAMERA.format(30)], "CPU", 2, Policy.EVERY)


def test_the_report_holds_no_password(painted_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "open_source", lambda _: open_source(CAMERA.format(100)))
    report = live_report(open_bundle(painted_bundles["ov-fp32"]), ["rtsp://admin:geheim@camera/1"], "CPU", 2, Policy.EVERY)
    assert [case.source for case in report.sources] == ["rtsp://admin:***@camera/1"]


def test_the_command_prints_both_trends_or_all_as_json(painted_bundles: dict[str, Path]) -> None:
    command = ["live", str(painted_bundles["ov-fp32"]), "--source", CAMERA.format(100), "--policy", "every", "--device", "CPU"]
    table, data = (CliRunner().invoke(app, [*command, *more]) for more in ([], ["--json"]))

    assert table.exit_code == data.exit_code == 0, table.output
    assert "the age of results changes by" in table.output and "without the inference itself" in table.output
    assert json.loads(data.stdout)["report"]["sources"][0]["results"] == 100
