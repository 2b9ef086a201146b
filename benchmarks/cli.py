"""`pose-bench`: measured accuracy and speed."""

from __future__ import annotations

import typer

from edgepose.benchmarks.accuracy_cli import accuracy, agreement, parser_speed, peaks
from edgepose.benchmarks.live_cli import daemon, events, live, tracking
from edgepose.benchmarks.speed_cli import compare, engine, gpu, pipeline, sweep
from edgepose.engines import console

app = typer.Typer(name="pose-bench", add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
for _command in (accuracy, agreement, engine, pipeline, sweep, compare, live, daemon, gpu, peaks, tracking, events):
    app.command()(_command)
app.command("parser")(parser_speed)


def main() -> None:
    console.run(app)
