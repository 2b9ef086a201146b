"""Plots for pages that stand alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepose.engines.errors import BackendUnavailable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = (
    "body{font:15px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
    "td,th{padding:.2rem .6rem;border-bottom:1px solid #ccc;text-align:left}img,svg{max-width:100%;height:auto}"
)


def svg_of(draw: Callable[[Axes], None]) -> str:
    """An SVG of one pair of axes, without a display and without matplotlib's global state. Raises BackendUnavailable."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendUnavailable("plots need matplotlib: pip install 'edgepose[bench]'") from error
    figure = Figure((10, 3.2), layout="constrained")
    draw(figure.subplots())
    file = io.StringIO()
    figure.savefig(file, format="svg")
    return file.getvalue().partition("<svg")[1] + file.getvalue().partition("<svg")[2]
