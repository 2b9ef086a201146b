"""The best number of slots is the smallest that is as good as any, and stays with the bundle for this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgepose.benchmarks.cli import app
from edgepose.benchmarks.sweep import SweepCase, best_case, sweep_cases
from edgepose.engines import profile
from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.errors import SinkError
from edgepose.engines.profile import best_slots, profile_path, write_profile


@pytest.fixture
def bundle(painted_bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(painted_bundles["ov-fp32"], tmp_path / "copy.pose"))


def test_more_slots_must_be_worth_their_wait() -> None:
    cases = [SweepCase(1, 60, 10), SweepCase(2, 99, 20), SweepCase(4, 100, 40), SweepCase(8, 98.5, 80)]
    assert best_case(cases).slots == 2


def test_every_number_of_slots_has_its_turns(bundle: Bundle, painted_pictures: list[Path]) -> None:
    ticks: list[None] = []
    cases, backend = sweep_cases(bundle, str(painted_pictures[0].parent), "CPU", (1, 3), 2, 0.02, lambda: ticks.append(None))
    assert [case.slots for case in cases] == [1, 3] and len(ticks) == 4
    assert all(case.frames_per_second > 0 and case.inference_ms > 0 for case in cases)
    assert backend.startswith("OpenVINO")


def test_what_was_found_is_taken_on_this_machine_only(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_slots(bundle) == profile.DEFAULT_SLOTS
    write_profile(bundle, "auto", 6, 90.0, "OpenVINO")
    assert best_slots(bundle) == 6
    assert best_slots(bundle, "GPU") == profile.DEFAULT_SLOTS
    open_bundle(bundle.path)
    monkeypatch.setattr(profile, "processor_name", lambda: "another")
    assert best_slots(bundle) == profile.DEFAULT_SLOTS


def test_a_torn_profile_is_passed_over_and_told(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    write_profile(bundle, "auto", 6, 90.0, "OpenVINO")
    profile_path(bundle, "auto").write_text('{"slots": ')
    assert best_slots(bundle) == profile.DEFAULT_SLOTS
    assert "run pose-bench sweep again" in caplog.text


def test_a_bundle_that_cannot_be_written_is_an_error_once_the_figures_are_shown(bundle: Bundle, painted_pictures: list[Path]) -> None:
    (bundle.path / "profiles").write_text("a file in the way")
    with pytest.raises(SinkError, match="cannot be written"):
        write_profile(bundle, "auto", 6, 90.0, "OpenVINO")
    command = ["sweep", str(bundle.path), "--source", str(painted_pictures[0].parent), "--device", "CPU"]
    table, data = (
        CliRunner().invoke(app, [*command, "--slots", "1", "--rounds", "1", "--seconds", "0.01", *more]) for more in ([], ["--json"])
    )
    assert isinstance(table.exception, SinkError) and isinstance(data.exception, SinkError)
    assert "frames/s" in table.output and json.loads(data.stdout)["best"]["slots"] == 1
