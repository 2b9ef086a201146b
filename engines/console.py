"""What every command-line program of the project shares: where errors go and how the program ends."""

from __future__ import annotations

import signal
import sys

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn

from edgepose.engines.errors import EdgePoseError


def messages() -> Console:
    """For people: tables, progress, notes; on stderr, so that stdout is left to results."""
    return Console(stderr=True, soft_wrap=True)


def progress(*columns: ProgressColumn) -> Progress:
    """A bar on a terminal that goes away when the work is done; nothing in a log file."""
    console = messages()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def run(app: typer.Typer) -> None:
    """Runs a program: exit status 0, 1 with one line on stderr for a known error, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM,
    which cleans up as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except EdgePoseError as error:
        print(f"{app.info.name}: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
