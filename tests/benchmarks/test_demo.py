"""The demo's picture and clip: where they cannot go, one line says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgepose.benchmarks.demo import app
from edgepose.engines.errors import SinkError


@pytest.mark.parametrize("in_the_way", ["photo.jpg", "clip.mp4", None])
def test_a_place_that_cannot_be_written_is_told(in_the_way: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "demo"
    if in_the_way:
        folder = tmp_path / "demo"
        (folder / in_the_way).mkdir(parents=True)
    done = CliRunner().invoke(app, [str(folder)])
    assert isinstance(done.exception, SinkError) and str(folder / (in_the_way or "")) in str(done.exception)
