"""How every program ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from edgepose.engines import console
from edgepose.engines.errors import ConfigError

_AT_WORK = """
import sys, time
from pathlib import Path
import typer
from edgepose.engines import console

app = typer.Typer(name="pose-test")

@app.command()
def work(part: Path) -> None:
    part.touch()
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        part.unlink()

console.run(app)
"""


def test_sigterm_cleans_up_as_ctrl_c_does(tmp_path: Path) -> None:
    part = tmp_path / "part"
    with subprocess.Popen([sys.executable, "-c", _AT_WORK, str(part)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "at work\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 143
    assert not part.exists()


def test_a_known_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(name="pose-test")

    @app.command()
    def work() -> None:
        raise ConfigError("found this:\n  wanted that")

    monkeypatch.setattr("sys.argv", ["pose-test"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        console.run(app)
    assert end.value.code == 1
    assert capsys.readouterr().err == "pose-test: found this: wanted that\n"
    assert signal.getsignal(signal.SIGTERM) == before
