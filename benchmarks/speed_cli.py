"""`pose-bench engine`, `pipeline`, `sweep`, `compare` and `gpu`: how fast."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgepose.benchmarks.cli_options import Device, Json, check_place, numbers, pictures_at, titled
from edgepose.benchmarks.compare import comparisons
from edgepose.benchmarks.engine import engine_cases
from edgepose.benchmarks.environment import environment
from edgepose.benchmarks.gpu import gpu_checks
from edgepose.benchmarks.page import page
from edgepose.benchmarks.pipeline import PipelineReport, pipeline_report
from edgepose.benchmarks.sweep import SweepCase, best_case, sweep_cases
from edgepose.calibration.plot import svg_of
from edgepose.engines import console
from edgepose.engines.bundle import open_bundle
from edgepose.engines.gpu import find_gpu
from edgepose.engines.profile import write_profile
from edgepose.engines.tensorrt_.bindings import import_tensorrt
from edgepose.runtime.complete_file import told


def engine(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one network; the first is what the others are measured against")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures, to see that all find the same people")],
    slots: Annotated[int, typer.Option(min=1, help="Inferences in flight")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="How often each engine has its turn")] = 20,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn")] = 0.5,
    beside: Annotated[bool, typer.Option("--benchmark-app", help="Run OpenVINO's own benchmark_app in every turn too")] = False,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Engines alone: pictures a second, taking turns, and what arithmetic they really execute."""
    with console.progress() as bar:
        task = bar.add_task("turns", total=turns)
        cases = engine_cases(bundles, pictures_at(images), device, slots, turns, seconds, lambda: bar.advance(task), beside)
    if json_:
        settings = {"slots": slots, "turns": turns, "seconds": seconds}
        typer.echo(json.dumps({"environment": environment(), **settings, "cases": [asdict(c) for c in cases]}, indent=1))
        return
    table = titled(f"Pictures a second, {slots} in flight")
    for heading in ("target", "median", "best", "multiple", "people", "OKS", "executed"):
        table.add_column(heading, justify="left" if heading in ("target", "executed") else "right", no_wrap=True)
    for c in cases:
        executed = ", ".join(f"{share:.1%} {arithmetic}" for arithmetic, share in c.shares.items()) or c.execution.backend
        table.add_row(c.target, f"{c.median:.1f}", f"{c.best:.1f}", f"{c.multiple:.2f}", str(c.persons), f"{c.oks:.3f}", executed)
    console.messages().print(table)
    for c in cases:
        if c.of_benchmark_app is not None:
            console.messages().print(f"{c.target}: {c.of_benchmark_app:.3f} of benchmark_app's pictures a second", highlight=False)


def pipeline(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by pose-export")],
    source: Annotated[str, typer.Option(help="A video, a picture or a folder of pictures, read again and again")],
    slots: Annotated[int, typer.Option(min=1, help="Inferences in flight")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="How often each has its turn")] = 10,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn")] = 2.0,
    html: Annotated[Path | None, typer.Option(help="A page with plots")] = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """The whole pipeline against its stages alone, the engine alone and a plain loop: where the time goes, and what is lost."""
    if html:
        check_place(html)
        svg_of(lambda _: None)  # matplotlib is asked for before minutes of measuring
    with console.progress() as bar:
        task = bar.add_task("rounds", total=rounds)
        report = pipeline_report(open_bundle(bundle), source, device, slots, rounds, seconds, tick=lambda: bar.advance(task))
    if json_:
        settings = {"rounds": rounds, "seconds": seconds}
        typer.echo(json.dumps({"environment": environment(), **settings, "report": asdict(report)}, indent=1))
    else:
        facts = f"{report.execution}, {slots} in flight, {report.cores} cores"
        console.messages().print(facts, *_pipeline_tables(report), sep="\n", highlight=False)
    if html:
        with told(html):
            html.write_text(page(report, environment()), encoding="utf-8")


def _pipeline_tables(r: PipelineReport) -> tuple[Table, Table, Table]:
    speed = titled("Frames a second, medians")
    for heading in ("", "frames/s", "of the bound", "of the engine"):
        speed.add_column(heading, justify="right" if heading else "left")
    speed.add_row("engine alone", f"{r.engine_fps:.1f}")
    speed.add_row("pipeline, frames in memory", f"{r.memory_fps:.1f}", f"{r.efficiency_of_bound_memory:.3f}", f"{r.efficiency_memory:.3f}")
    speed.add_row("pipeline, file", f"{r.file_fps:.1f}", f"{r.efficiency_of_bound_file:.3f}", f"{r.efficiency_file:.3f}")
    speed.add_row("plain loop, file", f"{r.sequential_fps:.1f}", "", f"the pipeline has {r.speedup:.2f} of it")
    cost = titled("CPU milliseconds a frame")
    for heading in ("", "ms"):
        cost.add_column(heading, justify="right" if heading else "left")
    for name, ms in r.cpu_ms.items():
        cost.add_row(name, f"{ms:.2f}")
    cost.add_row("our Python and JSON Lines", f"{r.overhead_us / 1e3:.2f}")
    waits = titled("Milliseconds; the stages of a frame from the file")
    for heading in ("", "n", "mean", "p50", "p90", "p99", "max"):
        waits.add_column(heading, justify="right" if heading else "left")
    for name, d in {"one inference alone, for latency": r.single_ms, **r.latencies}.items():
        waits.add_row(name, str(d.n), *(f"{value:.1f}" for value in (d.mean, d.p50, d.p90, d.p99, d.max)))
    return speed, cost, waits


def sweep(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by pose-export; what is found is kept in it, for this machine")],
    source: Annotated[str, typer.Option(help="A video, a picture or a folder of pictures")],
    slots: Annotated[str, typer.Option(help="Inferences in flight to try")] = "1,2,3,4,6,8",
    rounds: Annotated[int, typer.Option(min=1, help="How often each has its turn")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn")] = 1.0,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """The best number of inferences in flight on this machine, which pose-run then takes."""
    counts, opened = numbers(slots, "--slots"), open_bundle(bundle)
    with console.progress() as bar:
        task = bar.add_task("turns", total=rounds * len(counts))
        cases, backend = sweep_cases(opened, source, device, counts, rounds, seconds, lambda: bar.advance(task))
    best = best_case(cases)
    if json_:
        typer.echo(json.dumps({"environment": environment(), "best": asdict(best), "cases": [asdict(c) for c in cases]}, indent=1))
    else:
        console.messages().print(_sweep_table(cases, best), highlight=False)
    place = write_profile(opened, device, best.slots, best.frames_per_second, backend)
    if not json_:
        console.messages().print(f"{best.slots} slots from now on: {place}", highlight=False)


def _sweep_table(cases: list[SweepCase], best: SweepCase) -> Table:
    table = titled("The pipeline on frames in memory")
    for heading in ("slots", "frames/s", "ms an inference"):
        table.add_column(heading, justify="right")
    for case in cases:
        table.add_row(str(case.slots), f"{case.frames_per_second:.1f}", f"{case.inference_ms:.1f}", style="bold" if case is best else None)
    return table


def compare(
    first: Annotated[Path, typer.Argument(help="A file of pose-bench pipeline --json or pose-bench engine --json")],
    second: Annotated[Path, typer.Argument(help="Another of the same command")],
    anyway: Annotated[bool, typer.Option("--anyway", help="Also of two machines or power modes")] = False,
    json_: Json = False,
) -> None:
    """What differs between two results files by more than their own rounds do."""
    found = comparisons(first, second, anyway)
    if json_:
        typer.echo(json.dumps([{**asdict(c), "verdict": c.verdict} for c in found], indent=1))
        return
    table = titled("Frames a second, medians; ratio with 95 % confidence")
    for heading in ("", first.name, second.name, "ratio", "verdict"):
        table.add_column(heading, justify="right" if heading not in ("", "verdict") else "left")
    for c in found:
        table.add_row(c.figure, f"{c.first:.1f}", f"{c.second:.1f}", f"{c.ratio:.3f} ({c.low:.3f} to {c.high:.3f})", c.verdict)
    console.messages().print(table)


def gpu(
    bundles: Annotated[list[Path], typer.Argument(help="trt-* bundles of one network; one of them trt-fp32")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures")],
    out: Annotated[Path | None, typer.Option(help="Where the results file goes")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of each measurement")] = 1.0,
    opens: Annotated[int, typer.Option(min=1, help="How often an engine is opened for the leak check")] = 1000,
) -> None:
    """Everything that has to hold on a GPU, measured on this one; exit status 1 where something does not."""
    check_place(out)
    messages = console.messages()
    checks = gpu_checks(bundles, pictures_at(images), seconds, opens, lambda line: messages.print(line, highlight=False))
    facts = {"gpu": asdict(find_gpu()), "tensorrt": str(import_tensorrt()), "environment": environment()}
    for check in checks:
        mark, sign = ("[green]ok[/]" if check.holds else "[red]no[/]"), (">=" if check.at_least else "<=")
        messages.print(f"{mark} {check.name}: {check.value:.4g} (wanted {sign} {check.limit:g})", highlight=False)
    if out is not None:
        with told(out):
            out.write_text(json.dumps({**facts, "checks": [{**asdict(c), "holds": c.holds} for c in checks]}, indent=1) + "\n")
    if not all(check.holds for check in checks):
        raise typer.Exit(1)
