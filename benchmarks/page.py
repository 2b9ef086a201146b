"""The pipeline's report as a page: frames a second, where a frame's time goes, how latencies spread, and what runs beside what."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from edgepose.benchmarks.pipeline import STAGES, PipelineReport
from edgepose.calibration.plot import STYLE, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 24
_COLOURS = ("#bbbbbb", "#66ccee", "#4477aa", "#cc6677")
_NAMES = {"engine": "engine alone", "memory": "pipeline, memory", "file": "pipeline, file", "sequential": "plain loop, file"}


def page(report: PipelineReport, environment: dict[str, object]) -> str:
    """HTML with its plots inside."""
    title = f"{report.bundle}, {report.slots} in flight, {report.source}"
    facts = {
        "engine": str(report.execution),
        "of the bound, frames in memory": f"{report.efficiency_of_bound_memory:.3f} of {report.bound_memory_fps:.1f} frames/s",
        "of the bound, file": f"{report.efficiency_of_bound_file:.3f} of {report.bound_file_fps:.1f} frames/s",
        "over the plain loop": f"{report.speedup:.2f}",
        "our Python and JSON Lines": f"{report.overhead_us:.0f} µs of CPU time a frame",
        "energy": f"{report.millijoules:.0f} mJ a frame ({report.energy_source})" if report.millijoules else "not told by this system",
        "temperature before, after": ", ".join("?" if p.temperature_c is None else f"{p.temperature_c:.0f} °C" for p in report.power),
        "peak memory": f"{report.peak_memory_mib:.0f} MiB",
        **{key: str(value) for key, value in environment.items()},
    }
    rows = "".join(f"<tr><td>{html.escape(key)}<td>{html.escape(value)}</tr>" for key, value in facts.items())
    plots = {
        "Frames a second, by round": lambda axes: _rounds(axes, report),
        "Where a frame's time goes (mean, file)": lambda axes: _waterfall(axes, report),
        "From capture to people, the last frames": lambda axes: _spread(axes, report),
        "What runs beside what": lambda axes: _timeline(axes, report),
    }
    shown = "".join(f"<h2>{heading}</h2>{svg_of(draw)}" for heading, draw in plots.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{html.escape(title)}</h1><table>{rows}</table>{shown}</html>\n"
    )


def _rounds(axes: Axes, report: PipelineReport) -> None:
    for name, label in _NAMES.items():
        axes.plot(range(1, len(report.rounds) + 1), [getattr(each, name).per_second for each in report.rounds], "o-", label=label)
    axes.set_xticks(range(1, len(report.rounds) + 1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("round")
    axes.set_ylabel("frames/s")
    axes.legend(loc="lower right", ncols=4)


def _waterfall(axes: Axes, report: PipelineReport) -> None:
    left = 0.0
    for row, (name, colour) in enumerate(zip(STAGES, _COLOURS, strict=True)):
        width = report.latencies[name].mean
        axes.barh(row, width, left=left, color=colour)
        axes.text(left + width, row, f" {width:.2f} ms", va="center")
        left += width
    axes.set_yticks(range(len(STAGES)), STAGES)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * left)
    axes.set_xlabel("milliseconds since capture")


def _spread(axes: Axes, report: PipelineReport) -> None:
    taken = np.array(report.timeline)
    axes.hist((taken[:, -1] - taken[:, 0]) / 1e6, bins=40, color="#4477aa")
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("frames")


def _timeline(axes: Axes, report: PipelineReport) -> None:
    taken = np.array(report.timeline[-_SHOWN:])
    taken = (taken - taken[0, 1]) / 1e6
    for stage in range(1, len(STAGES)):
        began, ended = taken[:, stage], taken[:, stage + 1]
        axes.barh(range(len(taken)), ended - began, left=began, color=_COLOURS[stage], label=STAGES[stage])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("frame")
    axes.legend(loc="upper right")
