"""What is written about the settings says what the settings are."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.engines.record import Record
from edgepose.runtime.daemon.config import DaemonSettings, settings_from_file, settings_from_toml
from edgepose.runtime.daemon.explanation import findings
from edgepose.runtime.daemon.reference import keys, settings_page

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "deploy" / "pose.toml"
UNIT = ROOT / "deploy" / "pose-daemon.service"


def test_the_page_is_the_one_that_the_models_make() -> None:
    told = "python -m edgepose.runtime.daemon.reference > docs/daemon-settings.md"
    assert (ROOT / "docs" / "daemon-settings.md").read_text() == settings_page(), f"run {told}"


def test_every_key_is_explained() -> None:
    found = dict(keys())
    assert {"bundle", "server.port", "cameras.source", "cameras.events.kind", "auth.tokens.hash", "mqtt.host", "hook.file"} <= found.keys()
    for name, field in found.items():
        assert field.description and len(field.description) > 10, f"{name} has no description"


def test_the_example_is_a_configuration_that_looks_at_synthetic_people() -> None:
    made = settings_from_file(EXAMPLE, {})
    assert [camera.source for camera in made.cameras] == ["test:pattern?people=3"]
    assert [event.kind for event in made.cameras[0].events] == ["presence", "fall", "hand_raised"]
    assert made.mqtt is made.recording is made.hook is None and made.server == DaemonSettings(bundle=Path("x")).server


def test_the_example_can_be_started_as_it_stands() -> None:
    wrong = [each.text for each in findings(settings_from_file(EXAMPLE, {"EDGEPOSE_SERVER_PORT": "0"})) if each.verdict == "wrong"]
    assert not wrong


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", EXAMPLE.read_text())


def test_the_example_with_all_that_is_commented_out_is_one_too_and_names_every_key() -> None:
    made = settings_from_toml(uncommented(), "pose.toml", environment={})
    assert made.mqtt is not None and made.recording is not None and made.hook is not None and len(made.cameras) == 2
    said = set(re.findall(r"\b([a-z_]+) = ", EXAMPLE.read_text()))
    missing = {name for name, _ in keys() if name.rpartition(".")[2] not in said}
    assert not missing, f"deploy/pose.toml lacks {missing}"


def records(record: Record) -> Iterator[Record]:
    yield record
    for name in type(record).model_fields:
        value = getattr(record, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Record):
                yield from records(each)


def test_what_the_example_comments_out_is_the_default_where_there_is_one() -> None:
    """What has none (`slots`, say) and paths (`bundle`) are examples."""
    made = settings_from_toml(uncommented(), "pose.toml", environment={})
    checked = 0
    for record in records(made):
        for name, field in type(record).model_fields.items():
            default = field.get_default(call_default_factory=True)
            if isinstance(default, bool | int | float | str):
                assert getattr(record, name) == default, f"{type(record).__name__}.{name}"
                checked += 1
    assert checked > 40


@pytest.mark.needs("systemd-analyze")
def test_systemd_understands_every_line_of_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/edgepose/bin/pose-daemon", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    judged = subprocess.run(["systemd-analyze", "security", "--offline=yes", str(unit)], capture_output=True, text=True, check=True)
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", judged.stdout)
    assert exposure is not None and float(exposure[1]) < 2.0, "of 10; a service with no protection has 9.6"
