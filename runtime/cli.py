"""`pose-run`: pictures or a video in, drawn people and result files out."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from edgepose.engines import console
from edgepose.engines.bundle import open_bundle
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.errors import SinkError
from edgepose.engines.profile import best_slots
from edgepose.engines.registry import open_engine
from edgepose.engines.skeleton import Skeleton
from edgepose.runtime.intake import Policy
from edgepose.runtime.paf_parameters import PafParameters
from edgepose.runtime.parquet_sink import ParquetSink
from edgepose.runtime.pipeline import Pipeline
from edgepose.runtime.sinks import CocoResultsSink, JsonLinesSink, OpenPoseJsonSink, PictureSink, Sink, VideoSink
from edgepose.runtime.sources import Source, is_uri, open_source

app = typer.Typer(name="pose-run", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
_FPS_WHERE_UNKNOWN = Fraction(25)


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
    """Finds the people in pictures or a video, draws them and writes their keypoints. Ctrl-C ends it with complete files."""
    frames = open_source(source)
    _check_out(out, source)
    messages = console.messages()
    with ExitStack() as stack:
        opened = open_bundle(bundle or default_bundle())
        engine = open_engine(opened, device, slots or best_slots(opened, device), build=build)
        stack.callback(engine.close)
        asked = {"overlay": overlay, "openpose": openpose, "coco": coco, "jsonl": jsonl, "parquet": parquet}
        made = _sinks(out, source, frames, engine.contract.skeleton, scores, {name for name, yes in asked.items() if yes})
        sinks = [stack.enter_context(sink) for sink in made]
        policy, video = Policy.LATEST if frames.is_live else Policy.EVERY, frames.is_video
        parameters = PafParameters(threshold=threshold, minimum_score=min_score)
        pipeline = stack.enter_context(Pipeline(engine, [frames], policy, parameters, track and video, smooth and video))
        bar = stack.enter_context(_progress())
        total = min((n for n in (frames.count, max_frames) if n is not None), default=None)
        people = count = 0
        began = time.perf_counter()
        with _interruptible(pipeline, messages):
            for result in bar.track(islice(pipeline, max_frames), total=total, description=_name(source)):
                for sink in sinks:
                    sink.write(result.frame, result.poses)
                if not count:
                    messages.print(f"{engine.execution} [dim]({engine.execution.why})[/dim]", highlight=False)
                people, count = people + len(result.poses), count + 1
        took_s = time.perf_counter() - began
    messages.print(f"{people} people in {count} frames, {count / took_s:.1f} frames/s with reading, drawing and writing", highlight=False)
    if policy is Policy.LATEST and (dropped := pipeline.counts[0].dropped):
        messages.print(f"{dropped} of {pipeline.counts[0].captured} frames dropped for newer ones", highlight=False)
    messages.print(f"results: {out}", highlight=False)


@contextmanager
def _interruptible(pipeline: Pipeline, messages: Console) -> Iterator[None]:
    """The first Ctrl-C ends the pipeline instead of what is being written; the second is one as ever."""

    def halt(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        messages.print("interrupted: completing the files")
        pipeline.halt()

    before = signal.signal(signal.SIGINT, halt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_out(out: Path, source: str) -> None:
    """Drawn pictures and videos keep their source's name, so they may not go into its folder."""
    if is_uri(source):
        return
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if path.exists() and out.resolve() == folder.resolve():
        raise SinkError(f"{out}: results there would overwrite the source: give another --out")


def _sinks(out: Path, source: str, frames: Source, skeleton: Skeleton, scores: bool, wanted: set[str]) -> Iterator[Sink]:
    if "overlay" in wanted and frames.is_video:
        yield VideoSink(out / f"{_name(source)}.mp4", frames.fps or _FPS_WHERE_UNKNOWN, skeleton, scores=scores, scaled=frames.is_live)
    elif "overlay" in wanted:
        yield PictureSink(out, skeleton, scores=scores)
    if "openpose" in wanted:
        yield OpenPoseJsonSink(out / "openpose", skeleton)
    if "coco" in wanted:
        yield CocoResultsSink(out / "coco_results.json", skeleton)
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
