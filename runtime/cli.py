"""`pose-run`: pictures or a video in, drawn people and result files out."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from edgepose.engines import console
from edgepose.engines.bundle import open_bundle
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.errors import EdgePoseError, SinkError
from edgepose.engines.profile import best_slots
from edgepose.engines.registry import open_engine
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.intake import Policy
from edgepose.runtime.outputs import Outputs
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.parquet_sink import ParquetSink
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sinks import MOST_FPS, CocoResultsSink, JsonLinesSink, OpenPoseJsonSink, PictureSink, Sink, VideoSink
from edgepose.runtime.sources import PictureSource, Source, is_uri, open_source

app = typer.Typer(name="pose-run", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
_FPS_WHERE_UNKNOWN = Fraction(25)
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    console.run(app)


@app.command()
def run(
    source: Annotated[
        str, typer.Argument(help="A picture, a folder, a video, rtsp://..., http://..., v4l2:///dev/video0, or test:pattern?people=3")
    ],
    bundle: Annotated[Path | None, typer.Option(help="A bundle made by pose-export; default: edgepose-s, which comes along")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the drawn pictures or video and the result files")] = Path("poses"),
    device: Annotated[str, typer.Option(help="auto, CPU, GPU, ...")] = "auto",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least confidence of a keypoint")] = PafParameters().threshold,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many pictures or frames")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Write each person's score beside them")] = False,
    track: Annotated[bool, typer.Option("--track", help="Give each person of a video an id that stays")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Calm trembling keypoints of a video; tracks too")] = False,
    overlay: Annotated[bool, typer.Option(help="Draw the people: NAME.jpg, or one .mp4 for a video")] = True,
    openpose: Annotated[bool, typer.Option(help="One OpenPose-style JSON file a frame, in OUT/openpose")] = True,
    coco: Annotated[bool, typer.Option(help="All results as COCO keypoint results, OUT/coco_results.json")] = True,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="All results as JSON Lines, OUT/poses.jsonl")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="All results as a table, OUT/poses.parquet")] = False,
    slots: Annotated[int | None, typer.Option(min=1, help="Inferences in flight; by default what pose-bench sweep found, or 4")] = None,
    min_score: Annotated[float, typer.Option(min=0, help="Least score of a person; 0 shows everybody the parser suspects")] = 0.1,
    build: Annotated[bool, typer.Option(help="Build the TensorRT plan of a trt-* bundle where this device has none")] = True,
) -> None:
    """Finds the people in pictures or a video, draws them and writes their keypoints. Ctrl-C ends it with complete files, and with exit
    status 130 where the source has an end."""
    frames = open_source(source)
    _check_out(out, source)
    messages = console.messages()
    with ExitStack() as stack:
        opened = open_bundle(bundle or default_bundle())
        engine = open_engine(opened, device, slots or best_slots(opened, device), build=build)
        stack.callback(engine.close)
        asked = {"overlay": overlay, "openpose": openpose, "coco": coco, "jsonl": jsonl, "parquet": parquet}
        wanted = {name for name, yes in asked.items() if yes}
        policy, video = Policy.LATEST if frames.is_live else Policy.EVERY, frames.is_video
        parameters = PafParameters(threshold=threshold, minimum_score=min_score)
        pipeline = stack.enter_context(Pipeline(engine, [frames], policy, parameters, track and video, smooth and video))
        bar = stack.enter_context(_progress())
        total = min((n for n in (frames.count, max_frames) if n is not None), default=None)
        people = count = 0
        began = time.perf_counter()
        outputs = Outputs(_sinks(out, source, frames, engine.contract.skeleton, scores, wanted))
        with _completed(outputs, pipeline, messages) as interruptions:
            for result in bar.track(islice(pipeline, max_frames), total=total, description=_name(source)):
                outputs.write(result.frame, result.poses)
                if not count:
                    messages.print(f"{engine.execution} [dim]({engine.execution.why})[/dim]", highlight=False)
                people, count = people + len(result.poses), count + 1
        took_s = time.perf_counter() - began
    messages.print(f"{people} people in {count} frames, {count / took_s:.1f} frames/s with reading, drawing and writing", highlight=False)
    if policy is Policy.LATEST and (dropped := pipeline.counts[0].dropped):
        messages.print(f"{dropped} of {pipeline.counts[0].captured} frames dropped for newer ones", highlight=False)
    if wanted and count:
        messages.print(f"results: {out}", highlight=False)
    if count and not people:
        better = "" if bundle else "; edgepose-s, which comes along, is for a first look: --bundle takes a better network"
        messages.print(f"nobody was found: --min-score 0 shows whom the parser suspects{better}", highlight=False)
    if interruptions and policy is Policy.EVERY:
        raise typer.Exit(128 + interruptions[0])


@contextmanager
def _completed(outputs: Outputs, pipeline: Pipeline, messages: Console) -> Iterator[list[int]]:
    """Completes the files in the end, whatever ends it. The first Ctrl-C (or SIGTERM, SIGHUP) ends the pipeline, so that what is in flight
    is still written; the second ends that too; none disturbs the completing. Gives the first one's number, when it has come."""
    interruptions: list[int] = []

    def halt(number: int, _: object) -> None:
        interruptions.append(number)
        _handle(endings, _interrupt)
        messages.print("interrupted: completing the files")
        pipeline.halt()

    endings = [ending for ending in _ENDINGS if signal.getsignal(ending) is not signal.SIG_IGN]  # nohup's
    before = _handle(endings, halt)
    try:
        yield interruptions
    except EdgePoseError:
        if outputs.frames:
            messages.print(f"frames before this error are in the results: {outputs.frames}", highlight=False)
        raise
    finally:
        _handle(endings, signal.SIG_IGN)
        try:
            outputs.close()
        finally:
            for ending, handler in before.items():
                signal.signal(ending, handler)


def _handle(endings: list[signal.Signals], handler: Any) -> dict[signal.Signals, Any]:
    return {ending: signal.signal(ending, handler) for ending in endings}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _check_out(out: Path, source: str) -> None:
    """Drawn pictures and videos keep their source's name, so they may not go into its folder, or one that its links lead to."""
    if is_uri(source):
        return
    path = Path(source)
    files = path.iterdir() if path.is_dir() else [path]
    if out.resolve() in {folder for file in files for folder in (file.parent.resolve(), file.resolve().parent)}:
        raise SinkError(f"{out}: results there would overwrite the source: give another --out")


def _sinks(out: Path, source: str, frames: Source, skeleton: Skeleton, scores: bool, wanted: set[str]) -> Iterator[Sink]:
    if "overlay" in wanted and frames.is_video:
        fps = frames.fps if frames.fps and frames.fps < MOST_FPS else _FPS_WHERE_UNKNOWN  # browsers record 1000, which says nothing
        yield VideoSink(out / f"{_name(source)}.mp4", fps, skeleton, scores=scores, scaled=True)
    elif "overlay" in wanted:
        yield PictureSink(out, skeleton, scores=scores)
    if "openpose" in wanted:
        yield OpenPoseJsonSink(out / "openpose", skeleton)
    if "coco" in wanted:
        numbered = isinstance(frames, PictureSource) and frames.numbered
        yield CocoResultsSink(out / "coco_results.json", skeleton, numbered=numbered)
    if "jsonl" in wanted:
        yield JsonLinesSink(out / "poses.jsonl", skeleton)
    if "parquet" in wanted:
        yield ParquetSink(out / "poses.parquet", skeleton)


def _name(source: str) -> str:
    """Of the drawn video: the file's; a camera's says nothing of how it is reached."""
    if not is_uri(source):
        return Path(source).stem
    kind = source.partition(":")[0]
    return "test-pattern" if kind == "test" else f"{kind}-camera"


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _FramesPerSecond(), TimeRemainingColumn())
    return console.progress(*columns)
