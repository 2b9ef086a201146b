"""`pose-bench accuracy`, `agreement`, `peaks` and `parser`: what networks find, and how their maps become people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgepose.benchmarks.accuracy import AccuracyReport, bundle_agreement, coco_accuracy
from edgepose.benchmarks.cli_options import Device, Json, ParserOption, network_of, numbers, parser_parameters, pictures_at, titled
from edgepose.benchmarks.environment import environment
from edgepose.benchmarks.parser import ParserCase, Workload, parser_case
from edgepose.benchmarks.peaks import peak_cases
from edgepose.calibration.breakdown import Nearness
from edgepose.calibration.coco import CocoLabels
from edgepose.engines import console


def accuracy(
    bundles: Annotated[list[Path], typer.Option("--bundle", help="A bundle made by pose-export; others are compared with the first")],
    coco: Annotated[Path, typer.Option(help="COCO keypoint annotations (person_keypoints JSON)")],
    images: Annotated[Path, typer.Option(help="The folder of their pictures")],
    device: Device = "auto",
    parser: ParserOption = None,
    json_: Json = False,
) -> None:
    """COCO keypoint AP of bundles on labelled pictures, and what each loses against the first."""
    parameters = parser_parameters(parser)
    labels = CocoLabels(coco, images)
    with console.progress() as bar:
        task = bar.add_task("pictures", total=len(bundles) * len(labels.pictures))
        reports = coco_accuracy(bundles, labels, parameters, device, lambda: bar.advance(task))
    if json_:
        typer.echo(json.dumps({"environment": environment(), "reports": [asdict(report) for report in reports]}, indent=1))
        return
    first = reports[0].accuracy
    networks = {network_of(report.bundle) for report in reports}
    of = f"{networks.pop()}, " if len(networks) == 1 else ""
    table = titled(f"{of}{first.pictures} pictures, {first.persons} people; AP lost ± standard error")
    for heading in ("bundle", "AP", "lost", "AP50", "AP75", "APM", "APL", "AR", "found"):
        table.add_column(heading, justify="left" if heading == "bundle" else "right")
    for report in reports:
        a = report.accuracy
        figures = [f"{v:.3f}" for v in (a.ap50, a.ap75, a.ap_medium, a.ap_large, a.ar)]
        lost = f"{report.lost:.4f} ± {report.lost_error:.4f}" if report is not reports[0] else ""
        table.add_row(
            report.bundle.removeprefix(f"{network_of(report.bundle)}." if of else ""), f"{a.ap:.4f}", lost, *figures, str(a.found)
        )
    executed = (f"{report.bundle}: {report.execution}" for report in reports)
    console.messages().print(table, _bands(reports), _scores(reports), _keypoints(reports), *executed, sep="\n", highlight=False)


def _bands(reports: list[AccuracyReport]) -> Table:
    """How large people must be: a column for each band of heights."""
    table = titled("share of people found at OKS 0.50, by the height of their box in heights of the picture; how many there are")
    table.add_column("bundle")
    for band in max((report.accuracy.breakdown.bands for report in reports), key=len):
        table.add_column(f"{band.least:g}-{band.most:g}\n{band.persons}", justify="right")
    for report in reports:
        table.add_row(_short(report), *(f"{band.found:.2f}" for band in report.accuracy.breakdown.bands))
    return table


def _scores(reports: list[AccuracyReport]) -> Table:
    """Which least score to take: a column for each."""
    table = titled("people with at least this score, at OKS 0.50")
    table.add_column("bundle")
    table.add_column("")
    for at in max((report.accuracy.breakdown.scores for report in reports), key=len):
        table.add_column(f"{at.least_score:g}", justify="right")
    for report in reports:
        a, scores = report.accuracy, report.accuracy.breakdown.scores
        right = [f"{at.right / at.found:.2f}" if at.found else "" for at in scores]
        table.add_row(_short(report), "right, of those found", *right)
        table.add_row("", "found, of those labelled", *(f"{at.right / max(a.persons, 1):.2f}" for at in scores))
        table.add_row("", "where nobody is, a picture", *(f"{at.nowhere / a.pictures:.2f}" for at in scores))
    return table


def _keypoints(reports: list[AccuracyReport]) -> Table:
    table = titled("keypoints of people found at OKS 0.50: share that is found, median distance to the label in roots of the person's area")
    table.add_column("bundle")
    for kind in max((report.accuracy.breakdown.keypoints for report in reports), key=len):
        table.add_column(kind.keypoint, justify="right")
    for report in reports:
        table.add_row(_short(report), *map(_near, report.accuracy.breakdown.keypoints))
    return table


def _near(kind: Nearness) -> str:
    distance = "" if kind.distance is None else f"{kind.distance:.3f}"
    return f"{kind.found / kind.labelled:.2f}\n{distance}"


def _short(report: AccuracyReport) -> str:
    return report.bundle.rpartition(".pose")[0]


def agreement(
    reference: Annotated[Path, typer.Option(help="The bundle whose people are right")],
    bundle: Annotated[Path, typer.Option(help="The bundle that is judged")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures; no labels needed")],
    least_score: Annotated[float, typer.Option(min=0, help="Only people of the reference with this score are asked for")] = 0.0,
    device: Device = "auto",
    parser: ParserOption = None,
    json_: Json = False,
) -> None:
    """How well the people that two bundles find agree, by OKS, without labels."""
    report = bundle_agreement(reference, bundle, pictures_at(images), parser_parameters(parser), device, least_score)
    if json_:
        typer.echo(json.dumps({"environment": environment(), "report": asdict(report)}, indent=1))
        return
    console.messages().print(
        f"{report.other} against {report.reference}: OKS mean {report.oks_mean:.4f}, median {report.oks_median:.4f}"
        f" over {report.persons} people in {report.pictures} pictures; {report.missed} missed, {report.extra} extra",
        highlight=False,
    )


def peaks(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one network; the first one's keypoints are asked of all")],
    images: Annotated[Path, typer.Option(help="A picture or a folder of pictures")],
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Keypoints that ties in quantised confidence maps lose or double, by the rule that looks for peaks."""
    cases = peak_cases(bundles, pictures_at(images), device)
    if json_:
        typer.echo(json.dumps({"environment": environment(), "cases": [asdict(c) for c in cases]}, indent=1))
        return
    table = titled(f"{cases[0].keypoints} keypoints of {cases[0].bundle}")
    for heading in ("bundle", "rule", "lost", "doubled"):
        table.add_column(heading, justify="right" if heading in ("lost", "doubled") else "left")
    for c in cases:
        table.add_row(c.bundle, c.rule, f"{c.lost:.2%}", f"{c.doubled:.2%}")
    console.messages().print(table)


def parser_speed(
    workload: Annotated[Path, typer.Option(help="The folder of the synthetic workload: workload.py and score.py")] = Path("../shared/paf"),
    frames: Annotated[int, typer.Option(min=1, help="Frames a row")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other people")] = 1,
    persons: Annotated[str, typer.Option(help="People a frame, one row each")] = "1,2,5,10,20,30",
    sets: Annotated[str, typer.Option(help="Map layouts")] = "trt56,op32x57",
    instructions: Annotated[str, typer.Option(help="auto, or an instruction set of this processor")] = "auto",
    parser: ParserOption = None,
    json_: Json = False,
) -> None:
    """The PAF parser alone: CPU time of one thread as a multiple of one pass over the same maps, and what it finds."""
    counts, people = numbers(persons, "--persons"), Workload(workload)
    parameters = parser_parameters(parser)
    jobs = [(name, count) for name in _listed(sets, people.names) for count in counts]
    with console.progress() as bar:
        cases = [parser_case(people, name, n, frames, seed, parameters, instructions) for name, n in bar.track(jobs)]
    if json_:
        settings = {"seed": seed, "instructions": instructions, "parameters": parameters.model_dump()}
        typer.echo(json.dumps({"environment": environment(), **settings, "cases": [asdict(c) for c in cases]}, indent=1))
        return
    console.messages().print(_table(cases))


def _table(cases: list[ParserCase]) -> Table:
    table = titled("One thread; times in CPU microseconds, errors in cells")
    for heading in ("set", "people", "pass", "parse", "multiple", "Python +", "recall", "256 levels", "extra", "error"):
        table.add_column(heading, justify="left" if heading == "set" else "right", no_wrap=True)
    for c in cases:
        table.add_row(
            *(c.workload, str(c.persons), f"{c.one_pass_us:.1f}", f"{c.parse_us:.1f}", f"{c.multiple:.2f}", f"{c.python_us:.1f}"),
            *(f"{c.recall:.3f}", f"{c.recall_levels:.3f}", f"{c.extra_persons:.2f}", f"{c.location_error:.4f}"),
        )
    return table


def _listed(text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r}: this workload has {', '.join(known)}", param_hint="--sets")
    return names
