"""`pose-doctor`: what this machine has, and what each bundle would do here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from edgepose.engines import console
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.doctor import findings

app = typer.Typer(name="pose-doctor", add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    console.run(app)


@app.command()
def doctor(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles to look at; default: edgepose-s, which comes along")] = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON on stdout")] = False,
) -> None:
    """What this machine has to run poses on, what is missing, and what each bundle would do here; exit status 1 where one cannot run."""
    asked = bundles or []
    found = list(findings(asked or [default_bundle()]))
    if json_:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    else:
        messages = console.messages()
        for finding in found:
            mark = "[green]ok[/]" if finding.works else "[yellow]--[/]"
            messages.print(f"{mark} [bold]{finding.name}[/]: {escape(finding.text)}", highlight=False)
    if asked and not all(finding.works for finding in found[-len(asked) :]):
        raise typer.Exit(1)
