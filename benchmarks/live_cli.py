"""`pose-bench live`, `daemon`, `tracking` and `events`: what goes on and on."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgepose.benchmarks.cli_options import Device, Json, check_place, numbers, titled
from edgepose.benchmarks.daemon import daemon_report
from edgepose.benchmarks.environment import environment
from edgepose.benchmarks.events import EventCase, event_cases, event_report
from edgepose.benchmarks.live import live_report
from edgepose.benchmarks.tracking import cost_case, id_cases
from edgepose.engines import console
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import BackendUnavailable
from edgepose.runtime.complete_file import told
from edgepose.runtime.intake import Policy
from edgepose.runtime.sources import open_source

_BUSY_CAMERA = "test:pattern?width=640&height=360&fps=120"


def live(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by pose-export")],
    sources: Annotated[list[str], typer.Option("--source", help="test:pattern?fps=60&frames=36000, a camera, ...; as often as wanted")],
    slots: Annotated[int, typer.Option(min=1, help="Inferences in flight")] = 2,
    policy: Annotated[Policy, typer.Option(help="latest: the newest frame wins; every: sources wait")] = Policy.LATEST,
    seconds: Annotated[float | None, typer.Option(min=1, help="End after so long; a camera does not end by itself")] = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Live sources until they end: the age of results and whether it grows, drops, shares of the engine, memory."""
    _want_scipy()
    known = [open_source(source).count for source in sources]
    total = sum(count for count in known if count) if all(known) else None
    with console.progress() as bar:
        task = bar.add_task("frames", total=total)
        report = live_report(open_bundle(bundle), sources, device, slots, policy, seconds, lambda done: bar.update(task, completed=done))
    if json_:
        typer.echo(json.dumps({"environment": environment(), "report": asdict(report)}, indent=1))
        return
    table = titled("Milliseconds from capture to people")
    for heading in ("source", "captured", "dropped", "results", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for case in report.sources:
        age = case.age_ms
        figures = (f"{ms:.1f}" for ms in (age.p50, age.p90, age.p99, age.max)) if age else ()
        table.add_row(case.source, str(case.captured), str(case.dropped), str(case.results), *figures)
    console.messages().print(
        table,
        f"one inference takes {report.engine_ms:.1f} ms; the age of results changes by {report.age_trend}",
        f"without the inference itself the age is {report.waiting_ms.p50:.1f} ms, and changes by {report.waiting_trend}",
        f"most results of a source over fewest: {report.fairness:.3f}",
        f"memory: {report.memory_mib_begin:.0f} MiB, at the end {report.memory_mib_end:.0f} MiB",
        sep="\n",
        highlight=False,
    )


def daemon(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by pose-export")],
    source: Annotated[str, typer.Option(help="A live source with more frames than the engine can")] = _BUSY_CAMERA,
    slots: Annotated[int, typer.Option(min=1, help="Inferences in flight")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How often each has its turn")] = 6,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a turn")] = 5.0,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """What pose-daemon costs over pose-run: the same camera, with a page open and without."""
    with console.progress() as bar:
        task = bar.add_task("rounds", total=rounds)
        report = daemon_report(open_bundle(bundle), source, device, slots, rounds, seconds, lambda: bar.advance(task))
    if json_:
        typer.echo(json.dumps({"environment": environment(), "report": asdict(report)}, indent=1))
        return
    table = titled(str(report.execution))
    for heading in ("", "results/s", "of pose-run", "CPU ms a result"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, turn, ratio in (
        ("pose-run", report.run, 1.0),
        ("pose-daemon", report.daemon, report.ratio),
        ("pose-daemon, a page open", report.daemon_with_page, report.ratio_with_page),
    ):
        table.add_row(name, f"{turn.results_per_s:.1f}", f"{ratio:.3f}", f"{turn.cpu_ms:.2f}")
    console.messages().print(table)


def tracking(
    persons: Annotated[int, typer.Option(min=1, help="Synthetic people who cross")] = 6,
    fps: Annotated[float, typer.Option(min=1, help="Frames a second of their camera")] = 30.0,
    frames: Annotated[int, typer.Option(min=2, help="Frames a run")] = 1000,
    seeds: Annotated[int, typer.Option(min=1, help="Runs, each with other people")] = 10,
    json_: Json = False,
) -> None:
    """Ids of synthetic people who cross, by our pairs and by the Hungarian method's; cost of tracking and smoothing."""
    _want_scipy()
    with console.progress() as bar:
        task = bar.add_task("runs", total=2 * seeds)
        cases = id_cases(persons, fps, frames, seeds, lambda: bar.advance(task))
    costs = [cost_case(count) for count in (1, 5, 10, 20)]
    if json_:
        ids = [{**asdict(c), "switches_per_1000_frames": c.per_thousand_frames} for c in cases]
        typer.echo(json.dumps({"environment": environment(), "ids": ids, "costs": [asdict(c) for c in costs]}, indent=1))
        return
    for c in cases:
        console.messages().print(
            f"{c.pairs}: {c.per_thousand_frames:.2f} id switches in 1,000 frames of {c.persons} people at {c.fps:g} frames/s,"
            f" {len(c.switches)} runs of {c.frames} frames, at most {max(c.switches)} in one",
            highlight=False,
        )
    table = titled("Microseconds a frame, median and 90 %")
    for heading in ("people", "tracking", "90 %", "smoothing", "90 % "):
        table.add_column(heading, justify="right")
    for cost in costs:
        times = (cost.tracking_us_p50, cost.tracking_us_p90, cost.smoothing_us_p50, cost.smoothing_us_p90)
        table.add_row(str(cost.persons), *(f"{us:.0f}" for us in times))
    console.messages().print(table)


def events(
    repeats: Annotated[int, typer.Option(min=1, help="How often each act is played, each time by another body before another camera")] = 40,
    fps: Annotated[str, typer.Option(help="Frames a second to try")] = "5,10,30",
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other people")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the results file goes")] = None,
    json_: Json = False,
) -> None:
    """Falls and raised hands of synthetic people: how many are found, after how long, and what is said that did not happen."""
    rates = numbers(fps, "--fps")
    check_place(out)
    with console.progress() as bar:
        task = bar.add_task("plays", total=repeats * len(rates))
        cases = [case for rate in rates for case in event_cases(rate, repeats, seed, lambda: bar.advance(task))]
    text = json.dumps({"environment": environment(), "repeats": repeats, "seed": seed, **event_report(cases)}, indent=1)
    if json_:
        typer.echo(text)
    else:
        console.messages().print(_event_table(cases), highlight=False)
    if out is not None:
        with told(out):
            out.write_text(text + "\n", encoding="utf-8")


def _event_table(cases: list[EventCase]) -> Table:
    title = "Found, median seconds until it is said, and false alarms an hour of such acts"
    table = titled(title)
    for heading in ("act", "fps", "n", "found", "delay", "falls/h", "hands/h"):
        table.add_column(heading, justify="left" if heading == "act" else "right")
    for c in cases:
        found = "" if c.recall is None else f"{c.recall:.0%}"
        delay = "" if c.median_delay_s is None else f"{c.median_delay_s:+.1f}"
        table.add_row(c.act, f"{c.fps:g}", str(c.runs), found, delay, f"{c.hourly(c.false_falls):.1f}", f"{c.hourly(c.false_hands):.1f}")
    return table


def _want_scipy() -> None:
    if find_spec("scipy") is None:
        raise BackendUnavailable("SciPy is not installed: pip install 'edgepose[bench]'")
