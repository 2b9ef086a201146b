"""What the commands of `pose-bench` share: options, and tables for people."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgepose.engines.errors import SourceError
from edgepose.runtime.complete_file import told
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.sources import PictureSource, open_source

Device = Annotated[str, typer.Option(help="auto, CPU, GPU, ...")]
Json = Annotated[bool, typer.Option("--json", help="The report as JSON on stdout")]
ParserOption = Annotated[
    list[str] | None, typer.Option("--parser", help="A parser setting KEY=VALUE, as often as wanted", metavar="KEY=VALUE")
]


def titled(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)


def network_of(bundle: str) -> str:
    """A bundle's name without its target: what it is called where nobody renamed it."""
    return bundle.removesuffix(".pose").rpartition(".")[0]


def numbers(text: str, option: str) -> list[int]:
    if not all(part.isdecimal() and int(part) > 0 for part in text.split(",")):
        raise typer.BadParameter(f"{text!r}: wanted numbers as in 1,2,4", param_hint=option)
    return [int(part) for part in text.split(",")]


def check_place(path: Path | None) -> None:
    """Whether a results file can go there, before minutes of measuring; one that is there stays as it is. Raises SinkError."""
    if path is None:
        return
    with told(path):
        if path.is_file() or path.is_dir():
            path.open("ab").close()
        elif not path.exists():
            TemporaryFile(dir=path.parent).close()


def pictures_at(path: Path) -> list[Path]:
    """Raises SourceError."""
    source = open_source(path)
    if not isinstance(source, PictureSource):
        raise SourceError(f"{path}: wanted a picture or a folder of pictures")
    return list(source.paths)


def parser_parameters(settings: list[str] | None) -> PafParameters:
    """Raises BadParameter, ConfigError."""
    pairs = [setting.partition("=") for setting in settings or []]
    for key, equals, _ in pairs:
        if not equals:
            raise typer.BadParameter(f"{key!r}: wanted KEY=VALUE", param_hint="--parser")
    return PafParameters.parse({key: value for key, _, value in pairs}, "--parser")
