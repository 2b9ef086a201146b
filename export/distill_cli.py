"""`pose-distill`: a small network learns from a trained one, on pictures without labels."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgepose.calibration.coco import CocoAccuracy, CocoLabels
from edgepose.engines import console
from edgepose.export.network import import_torch

if TYPE_CHECKING:
    from edgepose.export.distill.course import Report

app = typer.Typer(name="pose-distill", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
_JUDGED_HW = (368, 656)
"""Where human-pose-estimation-0001 is judged too; most COCO pictures fill it."""


def main() -> None:
    console.run(app)


@app.command()
def distill(
    teacher: Annotated[
        Path, typer.Option(help="A bundle (NAME.pose; ov-int8 is the fastest on a CPU), or a checkpoint of one of our networks")
    ],
    images: Annotated[
        list[Path],
        typer.Option(help="A folder of pictures of people, without its subfolders; may be given several times. No labels are needed"),
    ],
    student: Annotated[str, typer.Option(help="edgepose-n, edgepose-s or edgepose-m")] = "edgepose-s",
    out: Annotated[
        Path, typer.Option(help="Weights in FP16 for pose-export; beside them NAME.state.pt, NAME.jsonl and NAME.sheets/")
    ] = Path("student.pth"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Length of the whole training, earlier runs counted, pauses not")] = 60,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of --minutes: how many batches")] = None,
    labels: Annotated[Path | None, typer.Option(help="COCO keypoint annotations that correct the teacher; wants --labelled-images")] = None,
    labelled_images: Annotated[Path | None, typer.Option(help="The folder of their pictures")] = None,
    coco: Annotated[
        Path | None, typer.Option(help="COCO keypoint annotations to judge the result by, never learned from; wants --val-images")
    ] = None,
    val_images: Annotated[Path | None, typer.Option(help="The folder of their pictures")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Pictures a step")] = 32,
    crop: Annotated[int, typer.Option(min=64, max=1024, help="Side of the training pictures, a multiple of 16")] = 192,
    reuse: Annotated[int, typer.Option(min=1, help="How often each crop that the teacher labelled is shown")] = 4,
    learning_rate: Annotated[float, typer.Option(min=1e-6, help="The highest")] = 3e-3,
    optimiser: Annotated[str, typer.Option(help="muon or adamw")] = "muon",
    seed: Annotated[int, typer.Option(help="Of weights, crops and what the camera does")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="By torch.compile: needs a C++ compiler and a minute; faster on some processors")
    ] = False,
    checkpoint_minutes: Annotated[float, typer.Option(min=0.01, help="How often everything is saved")] = 3,
    sheet_minutes: Annotated[float, typer.Option(min=0.01, help="How often student and teacher are drawn side by side")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout")] = False,
) -> None:
    """Distils a student from a teacher. Killed at any moment and started again with the same options, it continues."""
    _check(crop, optimiser, labels, labelled_images, coco, val_images)
    import_torch()
    from edgepose.export.distill.accuracy import coco_accuracy
    from edgepose.export.distill.course import Files
    from edgepose.export.distill.diary import Diary
    from edgepose.export.distill.distiller import Request
    from edgepose.export.distill.distiller import distill as distilled_from
    from edgepose.export.distill.settings import Settings

    judged = CocoLabels(coco, val_images) if coco and val_images else None
    settings = Settings(
        student=student,
        minutes=minutes,
        steps=steps,
        batch=batch,
        crop=crop,
        reuse=reuse,
        learning_rate=learning_rate,
        optimiser=cast('Literal["muon", "adamw"]', optimiser),
        seed=seed,
        compile=compile_,
        checkpoint_minutes=checkpoint_minutes,
        sheet_minutes=sheet_minutes,
    )
    held_out = tuple(judged.pictures.values()) if judged else ()
    request = Request(teacher, tuple(images), out, settings, labels, labelled_images, device, held_out)
    learning = threading.Event()
    with _stopped_by_signals(learning) as stop, _progress() as progress:
        bar = progress.add_task("begin", total=1.0)

        def show(report: Report) -> None:
            learning.set()
            _show(progress, bar, report)

        done = distilled_from(request, lambda text: progress.update(bar, description=text), show, stop)
    accuracy = None
    if judged:
        console.messages().print("judging on COCO labels ...")
        accuracy = coco_accuracy(done.module, done.contract.resized(*_JUDGED_HW), judged)
        Diary(Files(out).diary).write("judged", {"step": done.report.step, **asdict(accuracy)})
    _print_result(out, done.report, accuracy, as_json)


def _check(
    crop: int, optimiser: str, labels: Path | None, labelled_images: Path | None, coco: Path | None, val_images: Path | None
) -> None:
    if crop % 16:
        raise typer.BadParameter(f"{crop}: wanted a multiple of 16", param_hint="--crop")
    if optimiser not in ("muon", "adamw"):
        raise typer.BadParameter(f"{optimiser!r}: wanted muon or adamw", param_hint="--optimiser")
    if (labels is None) != (labelled_images is None):
        raise typer.BadParameter("--labels and --labelled-images belong together")
    if (coco is None) != (val_images is None):
        raise typer.BadParameter("--coco and --val-images belong together")


@contextmanager
def _stopped_by_signals(learning: threading.Event) -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM end the training after the step at hand, with everything saved; until `learning` is set, when there is nothing to
    save, they do what they did before."""
    stop = threading.Event()

    def end(number: int, _: object) -> None:
        if learning.is_set():
            stop.set()
        else:
            signal.signal(number, handlers[signal.Signals(number)])
            signal.raise_signal(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.percentage:.1f} %"), TimeElapsedColumn())
    return console.progress(*columns)


def _show(progress: Progress, bar: TaskID, r: Report) -> None:
    text = f"step {r.step}, loss {r.maps:.4f}, features {r.features:.2f}, {r.rate:.0f} pictures/s, {r.remaining_s / 60:.0f} min to go"
    progress.update(bar, completed=min(1.0, r.progress), description=text)


def _print_result(out: Path, report: Report, accuracy: CocoAccuracy | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"weights": str(out), **report.record(), "accuracy": asdict(accuracy) if accuracy else None}, indent=1))
        return
    messages = console.messages()
    worked = f"{report.worked_s / 60:.1f} minutes, {report.pictures} pictures"
    learned = "nothing new learned" if math.isnan(report.maps) else f"loss {report.maps:.5f}"
    messages.print(f"{out}: {worked}, {learned}", highlight=False)
    if accuracy:
        found = f"AP {accuracy.ap:.4f}, AP50 {accuracy.ap50:.4f}, AR {accuracy.ar:.4f}"
        messages.print(f"COCO at {_JUDGED_HW[0]} x {_JUDGED_HW[1]}: {found} on {accuracy.pictures} pictures", highlight=False)
