"""What `pose-bench` refuses, it refuses before minutes of measuring, and what it has measured it shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgepose.benchmarks.cli import app
from edgepose.engines.errors import BackendUnavailable, ConfigError, SinkError

NO_BUNDLE = "none.pose"


def bench(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("command", [("live", NO_BUNDLE, "--source", "test:pattern"), ("tracking", "--seeds", "1", "--frames", "2")])
def test_scipy_is_asked_for_before_anything_is_measured(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr("edgepose.benchmarks.live_cli.id_cases", unexpected)
    done = bench(*command)
    assert isinstance(done.exception, BackendUnavailable) and "pip install 'edgepose[bench]'" in str(done.exception)


@pytest.mark.parametrize("place", ["nowhere/results", "folder"])
@pytest.mark.parametrize(
    "command",
    [
        ("pipeline", NO_BUNDLE, "--source", "a.mp4", "--html"),
        ("events", "--repeats", "1", "--out"),
        ("gpu", NO_BUNDLE, "--images", ".", "--out"),
    ],
    ids=lambda command: command[0],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    command: tuple[str, ...], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("edgepose.benchmarks.live_cli.event_cases", unexpected)
    done = bench(*command, tmp_path / place)
    assert isinstance(done.exception, SinkError) and "cannot be written" in str(done.exception)


def test_an_earlier_page_stands_until_there_is_another(
    painted_bundles: dict[str, Path], painted_pictures: list[Path], tmp_path: Path
) -> None:
    earlier, new = tmp_path / "earlier.html", tmp_path / "new.html"
    earlier.write_text("earlier")
    for html in (earlier, new):
        assert isinstance(bench("pipeline", tmp_path / NO_BUNDLE, "--source", "a.mp4", "--html", html).exception, ConfigError)
    assert earlier.read_text() == "earlier" and not new.exists()
    turns = ("--slots", 1, "--rounds", 1, "--seconds", 0.01, "--device", "CPU")
    done = bench("pipeline", painted_bundles["ov-fp32"], "--source", painted_pictures[0].parent, *turns, "--html", earlier)
    assert done.exit_code == 0, done.output
    assert earlier.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    "command",
    [("events", "--seed", "-1"), ("parser", "--seed", "-1"), ("parser", "--persons", "0"), ("parser", "--persons", "1,a")],
    ids=" ".join,
)
def test_numbers_that_are_none_are_wrong_usage(command: tuple[str, ...]) -> None:
    done = bench(*command)
    assert done.exit_code == 2 and "Invalid value" in done.output


def unexpected(*_: Any) -> None:
    raise AssertionError("measured")
