"""`pose-bench`: measured accuracy and speed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgepose.benchmarks.accuracy import bundle_agreement, coco_accuracy
from edgepose.benchmarks.compare import comparisons
from edgepose.benchmarks.daemon import daemon_report
from edgepose.benchmarks.engine import engine_cases
from edgepose.benchmarks.environment import environment
from edgepose.benchmarks.events import EventCase, event_cases, event_report
from edgepose.benchmarks.gpu import gpu_checks
from edgepose.benchmarks.live import live_report
from edgepose.benchmarks.page import page
from edgepose.benchmarks.parser import ParserCase, Workload, parser_case
from edgepose.benchmarks.peaks import peak_cases
from edgepose.benchmarks.pipeline import PipelineReport, pipeline_report
from edgepose.benchmarks.sweep import best_case, sweep_cases
from edgepose.benchmarks.tracking import cost_case, id_cases
from edgepose.calibration.coco import CocoLabels
from edgepose.calibration.plot import svg_of
from edgepose.engines import console
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import SourceError
from edgepose.engines.gpu import find_gpu
from edgepose.engines.profile import write_profile
from edgepose.engines.tensorrt_.bindings import import_tensorrt
from edgepose.runtime.intake import Policy
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.sources import PictureSource, open_source

app = typer.Typer(name="pose-bench", add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Device = Annotated[str, typer.Option(help="auto, CPU, GPU, ...")]
Json = Annotated[bool, typer.Option("--json", help="The report as JSON on stdout")]
ParserOption = Annotated[
    list[str] | None, typer.Option("--parser", help="A parser setting KEY=VALUE, as often as wanted", metavar="KEY=VALUE")
]
_BUSY_CAMERA = "test:pattern?width=640&height=360&fps=120"


def main() -> None:
    console.run(app)


@app.command()
def accuracy(
    bundles: Annotated[list[Path], typer.Option("--bundle", help="A bundle made by pose-export; others are compared with the first")],
    coco: Annotated[Path, typer.Option(help="COCO keypoint annotations (person_keypoints JSON)")],
    images: Annotated[Path, typer.Option(help="The folder of their pictures")],
    device: Device = "auto",
    parser: ParserOption = None,
    json_: Json = False,
) -> None:
    """COCO keypoint AP of bundles on labelled pictures, and what each loses against the first."""
    parameters = _parameters(parser)
    labels = CocoLabels(coco, images)
    with console.progress() as bar:
        task = bar.add_task("pictures", total=len(bundles) * len(labels.pictures))
        reports = coco_accuracy(bundles, labels, parameters, device, lambda: bar.advance(task))
    if json_:
        typer.echo(json.dumps({"environment": environment(), "reports": [asdict(report) for report in reports]}, indent=1))
        return
    first = reports[0].accuracy
    networks = {_network(report.bundle) for report in reports}
    of = f"{networks.pop()}, " if len(networks) == 1 else ""
    table = Table(
        title=f"{of}{first.pictures} pictures, {first.persons} people; AP lost ± standard error",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for heading in ("bundle", "AP", "lost", "AP50", "AP75", "APM", "APL", "AR", "found"):
        table.add_column(heading, justify="left" if heading == "bundle" else "right")
    for report in reports:
        a = report.accuracy
        figures = [f"{v:.3f}" for v in (a.ap50, a.ap75, a.ap_medium, a.ap_large, a.ar)]
        lost = f"{report.lost:.4f} ± {report.lost_error:.4f}" if report is not reports[0] else ""
        table.add_row(report.bundle.removeprefix(f"{_network(report.bundle)}." if of else ""), f"{a.ap:.4f}", lost, *figures, str(a.found))
    console.messages().print(table, *(f"{report.bundle}: {report.execution}" for report in reports), sep="\n", highlight=False)


def _network(bundle: str) -> str:
    """A bundle's name without its target: what it is called where nobody renamed it."""
    return bundle.removesuffix(".pose").rpartition(".")[0]


@app.command("agreement")
def agreement_command(
    reference: Annotated[Path, typer.Option(help="The bundle whose people are right")],
    bundle: Annotated[Path, typer.Option(help="The bundle that is judged")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures; no labels needed")],
    least_score: Annotated[float, typer.Option(min=0, help="Only people of the reference with this score are asked for")] = 0.0,
    device: Device = "auto",
    parser: ParserOption = None,
    json_: Json = False,
) -> None:
    """How well the people that two bundles find agree, by OKS, without labels."""
    report = bundle_agreement(reference, bundle, _pictures(images), _parameters(parser), device, least_score)
    if json_:
        typer.echo(json.dumps(asdict(report), indent=1))
        return
    console.messages().print(
        f"{report.other} against {report.reference}: OKS mean {report.oks_mean:.4f}, median {report.oks_median:.4f}"
        f" over {report.persons} people in {report.pictures} pictures; {report.missed} missed, {report.extra} extra",
        highlight=False,
    )


@app.command("engine")
def engine_command(
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
        cases = engine_cases(bundles, _pictures(images), device, slots, turns, seconds, lambda: bar.advance(task), beside)
    if json_:
        settings = {"slots": slots, "turns": turns, "seconds": seconds}
        typer.echo(json.dumps({"environment": environment(), **settings, "cases": [asdict(c) for c in cases]}, indent=1))
        return
    table = Table(title=f"Pictures a second, {slots} in flight", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("target", "median", "best", "multiple", "people", "OKS", "executed"):
        table.add_column(heading, justify="left" if heading in ("target", "executed") else "right", no_wrap=True)
    for c in cases:
        executed = ", ".join(f"{share:.1%} {arithmetic}" for arithmetic, share in c.shares.items()) or c.execution.backend
        table.add_row(c.target, f"{c.median:.1f}", f"{c.best:.1f}", f"{c.multiple:.2f}", str(c.persons), f"{c.oks:.3f}", executed)
    console.messages().print(table)
    for c in cases:
        if c.of_benchmark_app is not None:
            console.messages().print(f"{c.target}: {c.of_benchmark_app:.3f} of benchmark_app's pictures a second", highlight=False)


@app.command("pipeline")
def pipeline_command(
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
        html.write_text("", encoding="utf-8")  # before minutes of measuring
        svg_of(lambda _: None)
    with console.progress() as bar:
        task = bar.add_task("rounds", total=rounds)
        report = pipeline_report(open_bundle(bundle), source, device, slots, rounds, seconds, tick=lambda: bar.advance(task))
    if html:
        html.write_text(page(report, environment()), encoding="utf-8")
    if json_:
        settings = {"rounds": rounds, "seconds": seconds}
        typer.echo(json.dumps({"environment": environment(), **settings, "report": asdict(report)}, indent=1))
        return
    told = f"{report.execution}, {slots} in flight, {report.cores} cores"
    console.messages().print(told, *_pipeline_tables(report), sep="\n", highlight=False)


@app.command("sweep")
def sweep_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by pose-export; what is found is kept in it, for this machine")],
    source: Annotated[str, typer.Option(help="A video, a picture or a folder of pictures")],
    slots: Annotated[str, typer.Option(help="Inferences in flight to try")] = "1,2,3,4,6,8",
    rounds: Annotated[int, typer.Option(min=1, help="How often each has its turn")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn")] = 1.0,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """The best number of inferences in flight on this machine, which pose-run then takes."""
    counts, opened = _counts(slots), open_bundle(bundle)
    with console.progress() as bar:
        task = bar.add_task("turns", total=rounds * len(counts))
        cases, backend = sweep_cases(opened, source, device, counts, rounds, seconds, lambda: bar.advance(task))
    best = best_case(cases)
    place = write_profile(opened, device, best.slots, best.frames_per_second, backend)
    if json_:
        typer.echo(json.dumps({"environment": environment(), "best": asdict(best), "cases": [asdict(c) for c in cases]}, indent=1))
        return
    table = Table(title="The pipeline on frames in memory", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("slots", "frames/s", "ms an inference"):
        table.add_column(heading, justify="right")
    for case in cases:
        table.add_row(str(case.slots), f"{case.frames_per_second:.1f}", f"{case.inference_ms:.1f}", style="bold" if case is best else None)
    console.messages().print(table, f"{best.slots} slots from now on: {place}", sep="\n", highlight=False)


def _counts(text: str) -> list[int]:
    if not all(part.isdecimal() and int(part) > 0 for part in text.split(",")):
        raise typer.BadParameter(f"{text!r}: wanted numbers as in 1,2,4", param_hint="--slots")
    return [int(part) for part in text.split(",")]


@app.command("compare")
def compare_command(
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
    table = Table(title="Frames a second, medians; ratio with 95 % confidence", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for heading in ("", first.name, second.name, "ratio", "verdict"):
        table.add_column(heading, justify="right" if heading not in ("", "verdict") else "left")
    for c in found:
        table.add_row(c.figure, f"{c.first:.1f}", f"{c.second:.1f}", f"{c.ratio:.3f} ({c.low:.3f} to {c.high:.3f})", c.verdict)
    console.messages().print(table)


@app.command("live")
def live_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by pose-export")],
    sources: Annotated[list[str], typer.Option("--source", help="test:pattern?fps=60&frames=36000, a camera, ...; as often as wanted")],
    slots: Annotated[int, typer.Option(min=1, help="Inferences in flight")] = 2,
    policy: Annotated[Policy, typer.Option(help="latest: the newest frame wins; every: sources wait")] = Policy.LATEST,
    seconds: Annotated[float | None, typer.Option(min=1, help="End after so long; a camera does not end by itself")] = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Live sources until they end: the age of results and whether it grows, drops, shares of the engine, memory."""
    known = [open_source(source).count for source in sources]
    total = sum(count for count in known if count) if all(known) else None
    with console.progress() as bar:
        task = bar.add_task("frames", total=total)
        report = live_report(open_bundle(bundle), sources, device, slots, policy, seconds, lambda done: bar.update(task, completed=done))
    if json_:
        typer.echo(json.dumps({"environment": environment(), "report": asdict(report)}, indent=1))
        return
    table = Table(title="Milliseconds from capture to people", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("source", "captured", "dropped", "results", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for case in report.sources:
        age = case.age_ms
        figures = (f"{ms:.1f}" for ms in (age.p50, age.p90, age.p99, age.max)) if age else ()
        table.add_row(case.source, str(case.captured), str(case.dropped), str(case.results), *figures)
    trend = f"{report.slope_ms_per_minute:+.3f} ± {report.slope_error:.3f} ms a minute (by chance: {report.slope_by_chance:.2f})"
    console.messages().print(
        table,
        f"one inference takes {report.engine_ms:.1f} ms; the age of results changes by {trend}",
        f"most results of a source over fewest: {report.fairness:.3f}",
        f"memory: {report.memory_mib_begin:.0f} MiB, at the end {report.memory_mib_end:.0f} MiB",
        sep="\n",
        highlight=False,
    )


@app.command("daemon")
def daemon_command(
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
    table = Table(title=str(report.execution), title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("", "results/s", "of pose-run", "CPU ms a result"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, turn, ratio in (
        ("pose-run", report.run, 1.0),
        ("pose-daemon", report.daemon, report.ratio),
        ("pose-daemon, a page open", report.daemon_with_page, report.ratio_with_page),
    ):
        table.add_row(name, f"{turn.results_per_s:.1f}", f"{ratio:.3f}", f"{turn.cpu_ms:.2f}")
    console.messages().print(table)


@app.command("gpu")
def gpu_command(
    bundles: Annotated[list[Path], typer.Argument(help="trt-* bundles of one network; one of them trt-fp32")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures")],
    out: Annotated[Path | None, typer.Option(help="Where the results file goes")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of each measurement")] = 1.0,
    opens: Annotated[int, typer.Option(min=1, help="How often an engine is opened for the leak check")] = 1000,
) -> None:
    """Everything that has to hold on a GPU, measured on this one; exit status 1 where something does not."""
    messages = console.messages()
    checks = gpu_checks(bundles, _pictures(images), seconds, opens, lambda line: messages.print(line, highlight=False))
    facts = {"gpu": asdict(find_gpu()), "tensorrt": str(import_tensorrt()), "environment": environment()}
    if out is not None:
        out.write_text(json.dumps({**facts, "checks": [{**asdict(c), "holds": c.holds} for c in checks]}, indent=1) + "\n")
    for check in checks:
        mark, sign = ("[green]ok[/]" if check.holds else "[red]no[/]"), (">=" if check.at_least else "<=")
        messages.print(f"{mark} {check.name}: {check.value:.4g} (wanted {sign} {check.limit:g})", highlight=False)
    if not all(check.holds for check in checks):
        raise typer.Exit(1)


@app.command("peaks")
def peaks_command(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one network; the first one's keypoints are asked of all")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures")],
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Keypoints that ties in quantised confidence maps lose or double, by the rule that looks for peaks."""
    cases = peak_cases(bundles, _pictures(images), device)
    if json_:
        typer.echo(json.dumps({"environment": environment(), "cases": [asdict(c) for c in cases]}, indent=1))
        return
    table = Table(title=f"{cases[0].keypoints} keypoints of {cases[0].bundle}", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for heading in ("bundle", "rule", "lost", "doubled"):
        table.add_column(heading, justify="right" if heading in ("lost", "doubled") else "left")
    for c in cases:
        table.add_row(c.bundle, c.rule, f"{c.lost:.2%}", f"{c.doubled:.2%}")
    console.messages().print(table)


@app.command("parser")
def parser_command(
    workload: Annotated[Path, typer.Option(help="The folder of the synthetic workload: workload.py and score.py")] = Path("../shared/paf"),
    frames: Annotated[int, typer.Option(min=1, help="Frames a row")] = 24,
    seed: Annotated[int, typer.Option(help="Other seeds give other people")] = 1,
    persons: Annotated[str, typer.Option(help="People a frame, one row each")] = "1,2,5,10,20,30",
    sets: Annotated[str, typer.Option(help="Map layouts")] = "trt56,op32x57",
    instructions: Annotated[str, typer.Option(help="auto, or an instruction set of this processor")] = "auto",
    parser: ParserOption = None,
    json_: Json = False,
) -> None:
    """The PAF parser alone: CPU time of one thread as a multiple of one pass over the same maps, and what it finds."""
    people = Workload(workload)
    parameters = _parameters(parser)
    jobs = [(name, int(n)) for name in _listed(sets, people.names) for n in persons.split(",")]
    with console.progress() as bar:
        cases = [parser_case(people, name, n, frames, seed, parameters, instructions) for name, n in bar.track(jobs)]
    if json_:
        settings = {"seed": seed, "instructions": instructions, "parameters": parameters.model_dump()}
        typer.echo(json.dumps({"environment": environment(), **settings, "cases": [asdict(c) for c in cases]}, indent=1))
        return
    console.messages().print(_table(cases))


@app.command("tracking")
def tracking_command(
    persons: Annotated[int, typer.Option(min=1, help="Synthetic people who cross")] = 6,
    fps: Annotated[float, typer.Option(min=1, help="Frames a second of their camera")] = 30.0,
    frames: Annotated[int, typer.Option(min=2, help="Frames a run")] = 1000,
    seeds: Annotated[int, typer.Option(min=1, help="Runs, each with other people")] = 10,
    json_: Json = False,
) -> None:
    """Ids of synthetic people who cross, by our pairs and by the Hungarian method's; cost of tracking and smoothing."""
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
    table = Table(title="Microseconds a frame, median and 90 %", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for heading in ("people", "tracking", "90 %", "smoothing", "90 % "):
        table.add_column(heading, justify="right")
    for cost in costs:
        times = (cost.tracking_us_p50, cost.tracking_us_p90, cost.smoothing_us_p50, cost.smoothing_us_p90)
        table.add_row(str(cost.persons), *(f"{us:.0f}" for us in times))
    console.messages().print(table)


@app.command("events")
def events_command(
    repeats: Annotated[int, typer.Option(min=1, help="How often each act is played, each time by another body before another camera")] = 40,
    fps: Annotated[str, typer.Option(help="Frames a second to try")] = "5,10,30",
    seed: Annotated[int, typer.Option(help="Other seeds give other people")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the results file goes")] = None,
    json_: Json = False,
) -> None:
    """Falls and raised hands of synthetic people: how many are found, after how long, and what is said that did not happen."""
    rates = _counts(fps)
    with console.progress() as bar:
        task = bar.add_task("plays", total=repeats * len(rates))
        cases = [case for rate in rates for case in event_cases(rate, repeats, seed, lambda: bar.advance(task))]
    text = json.dumps({"environment": environment(), "repeats": repeats, "seed": seed, **event_report(cases)}, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    if json_:
        typer.echo(text)
        return
    console.messages().print(_event_table(cases), highlight=False)


def _event_table(cases: list[EventCase]) -> Table:
    title = "Found, median seconds until it is said, and false alarms an hour of such acts"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("act", "fps", "n", "found", "delay", "falls/h", "hands/h"):
        table.add_column(heading, justify="left" if heading == "act" else "right")
    for c in cases:
        found = "" if c.recall is None else f"{c.recall:.0%}"
        delay = "" if c.median_delay_s is None else f"{c.median_delay_s:+.1f}"
        table.add_row(c.act, f"{c.fps:g}", str(c.runs), found, delay, f"{c.hourly(c.false_falls):.1f}", f"{c.hourly(c.false_hands):.1f}")
    return table


def _pipeline_tables(r: PipelineReport) -> tuple[Table, Table, Table]:
    speed = Table(title="Frames a second, medians", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("", "frames/s", "of the bound", "of the engine"):
        speed.add_column(heading, justify="right" if heading else "left")
    speed.add_row("engine alone", f"{r.engine_fps:.1f}")
    speed.add_row("pipeline, frames in memory", f"{r.memory_fps:.1f}", f"{r.efficiency_of_bound_memory:.3f}", f"{r.efficiency_memory:.3f}")
    speed.add_row("pipeline, file", f"{r.file_fps:.1f}", f"{r.efficiency_of_bound_file:.3f}", f"{r.efficiency_file:.3f}")
    speed.add_row("plain loop, file", f"{r.sequential_fps:.1f}", "", f"the pipeline has {r.speedup:.2f} of it")
    cost = Table(title="CPU milliseconds a frame", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("", "ms"):
        cost.add_column(heading, justify="right" if heading else "left")
    for name, ms in r.cpu_ms.items():
        cost.add_row(name, f"{ms:.2f}")
    cost.add_row("our Python and JSON Lines", f"{r.overhead_us / 1e3:.2f}")
    waits = Table(
        title="Milliseconds; the stages of a frame from the file", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False
    )
    for heading in ("", "n", "mean", "p50", "p90", "p99", "max"):
        waits.add_column(heading, justify="right" if heading else "left")
    for name, d in {"one inference alone, for latency": r.single_ms, **r.latencies}.items():
        waits.add_row(name, str(d.n), *(f"{value:.1f}" for value in (d.mean, d.p50, d.p90, d.p99, d.max)))
    return speed, cost, waits


def _table(cases: list[ParserCase]) -> Table:
    table = Table(
        title="One thread; times in CPU microseconds, errors in cells", title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False
    )
    for heading in ("set", "people", "pass", "parse", "multiple", "Python +", "recall", "256 levels", "extra", "error"):
        table.add_column(heading, justify="left" if heading == "set" else "right", no_wrap=True)
    for c in cases:
        table.add_row(
            *(c.workload, str(c.persons), f"{c.one_pass_us:.1f}", f"{c.parse_us:.1f}", f"{c.multiple:.2f}", f"{c.python_us:.1f}"),
            *(f"{c.recall:.3f}", f"{c.recall_levels:.3f}", f"{c.extra_persons:.2f}", f"{c.location_error:.4f}"),
        )
    return table


def _pictures(path: Path) -> list[Path]:
    source = open_source(path)
    if not isinstance(source, PictureSource):
        raise SourceError(f"{path}: wanted a picture or a folder of pictures")
    return list(source.paths)


def _parameters(settings: list[str] | None) -> PafParameters:
    pairs = [setting.partition("=") for setting in settings or []]
    for key, equals, _ in pairs:
        if not equals:
            raise typer.BadParameter(f"{key!r}: wanted KEY=VALUE", param_hint="--parser")
    return PafParameters.parse({key: value for key, _, value in pairs}, "--parser")


def _listed(text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r}: this workload has {', '.join(known)}", param_hint="--sets")
    return names
