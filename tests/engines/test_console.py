"""How every program ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import typer

from edgepose.engines import console
from edgepose.engines.errors import ConfigError


def app_that(does: object) -> typer.Typer:
    app = typer.Typer(name="pose-test")
    app.command()(does)  # type: ignore[type-var]
    return app


def test_sigterm_cleans_up_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "part"

    def work() -> None:
        part.touch()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            part.unlink()

    monkeypatch.setattr("sys.argv", ["pose-test"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        console.run(app_that(work))
    assert end.value.code == 143
    assert not part.exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_known_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ConfigError("found this:\n  wanted that")

    monkeypatch.setattr("sys.argv", ["pose-test"])
    with pytest.raises(SystemExit) as end:
        console.run(app_that(work))
    assert end.value.code == 1
    assert capsys.readouterr().err == "pose-test: found this: wanted that\n"
