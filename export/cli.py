"""`pose-export`: from trained weights to bundles, every step compared with the one before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edgepose.calibration.cache import default_cache
from edgepose.calibration.calibrator import COUNT, DEFAULT_AP_GATE, DEFAULT_GATE, CalibrationRequest
from edgepose.calibration.coco import CocoLabels
from edgepose.calibration.judge import Gate
from edgepose.calibration.search import CALIBRATOR_NAMES
from edgepose.engines import console
from edgepose.engines.bundle import AccuracyRecord, CalibrationRecord, HopParity
from edgepose.engines.contract import ModelContract, contract_from_json
from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import Skeleton, skeleton_from_json, skeleton_named
from edgepose.engines.target import TARGETS, target_named
from edgepose.export.exporter import Export, export_bundles, fitted_pictures, steps
from edgepose.export.network import Network, network_from_architecture, network_from_model
from edgepose.export.onnx_file import import_onnx
from edgepose.export.onnx_from_torch import OPSET, Batch
from edgepose.export.stage import Pictures
from edgepose.runtime.sources import PictureSource, open_source

app = typer.Typer(name="pose-export", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
_VERIFIED_AT_MOST = 12


def main() -> None:
    console.run(app)


@app.command()
def export(
    target: Annotated[list[str], typer.Option(help="What to make; may be given several times: " + ", ".join(t.name for t in TARGETS))],
    arch: Annotated[str, typer.Option(help="One of our architectures, by its public name, e.g. resnet18_baseline_att")] = "",
    weights: Annotated[
        Path | None, typer.Option(help="Its checkpoint (.pth); loaded with weights_only; default: those that come with edgepose-n and -s")
    ] = None,
    model: Annotated[str, typer.Option(help="Any other network: package.module:factory, a .pt2, an .onnx or an OpenVINO .xml")] = "",
    contract: Annotated[Path | None, typer.Option(help="Contract of --model, a JSON file: see docs/contracts.md")] = None,
    skeleton: Annotated[str, typer.Option(help="For trt_pose checkpoints: a human_pose.json, or a built-in skeleton")] = "",
    input_size: Annotated[str, typer.Option(help="HEIGHTxWIDTH; default: that of the architecture or contract")] = "",
    batch: Annotated[str, typer.Option(help="Pictures an inference: a number, or 'dynamic'; default 1, or that of the model file")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the bundles <name>-<HxW>.<target>.pose")] = Path("bundles"),
    name: Annotated[str, typer.Option(help="First part of the bundles' names; default: that of the network")] = "",
    verify: Annotated[
        Path | None, typer.Option(help="A picture, a folder or a video to compare the hops on; else structured noise")
    ] = None,
    verify_count: Annotated[int, typer.Option(min=1, help="How many pictures of --verify to take, spread evenly")] = _VERIFIED_AT_MOST,
    calib: Annotated[
        str, typer.Option(help="For INT8: pictures to choose scales from: a folder, a video, an .npz, or a camera's URL", metavar="SOURCE")
    ] = "",
    calib_count: Annotated[int, typer.Option(min=1, help="How many pictures of --calib to take")] = COUNT,
    calib_seed: Annotated[int, typer.Option(help="Which pictures of a folder are drawn")] = 0,
    calib_seconds: Annotated[float, typer.Option(min=0, help="How long a camera is recorded")] = 60.0,
    calib_cache: Annotated[Path | None, typer.Option(help="Where calibrations are kept; default: the user's cache folder")] = None,
    calibrator: Annotated[str, typer.Option(help="How scales are chosen: " + ", ".join(CALIBRATOR_NAMES))] = "auto",
    max_ap_drop: Annotated[float | None, typer.Option(help="INT8 may lose this much COCO AP; wants --coco and --images")] = None,
    min_oks: Annotated[
        float | None, typer.Option(help="INT8 poses must agree this well with FP32, on --verify or else the calibration pictures")
    ] = None,
    coco: Annotated[Path | None, typer.Option(help="COCO keypoint annotations, for the AP of INT8")] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of their pictures")] = None,
    report_pictures: Annotated[
        bool, typer.Option(help="The worst pictures in calibration.html; leave them out of a bundle that goes to others")
    ] = True,
    quantise_heads: Annotated[bool, typer.Option("--quantise-heads", help="For study: heads in INT8 too, whose maps then tie")] = False,
    overflow_fix: Annotated[
        bool | None, typer.Option(help="For ov-int8: half the weights' range, for CPUs without VNNI; default: as this CPU needs")
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(min=13, help=f"ONNX operator set of a PyTorch network; default {OPSET}, the newest that TensorRT 8.5 reads"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout, instead of the table")] = False,
) -> None:
    """Converts a trained pose network and proves each conversion, down to the decoded poses."""
    targets = [target_named(t) for t in dict.fromkeys(target)]
    gate = _gate(max_ap_drop, min_oks, coco)
    network = _network(arch, weights, model, contract, skeleton)
    _check_opset(opset, network)
    if not (calib and any(t.precision == "int8" for t in targets) and network.ir is None):
        _refuse_idle(
            max_ap_drop=max_ap_drop, min_oks=min_oks, coco=coco, images=images, calibrator=None if calibrator == "auto" else calibrator
        )
    if input_size:
        network = network.resized(*_size(input_size))
    settled = _batch(batch, network)
    if name:
        network = _renamed(network, name)
    calibration = None
    if calib:
        calibration = CalibrationRequest(
            source=calib,
            count=calib_count,
            seed=calib_seed,
            seconds=calib_seconds,
            calibrator=calibrator,
            gate=gate,
            labels=_labels(coco, images),
            report_pictures=report_pictures,
            quantise_heads=quantise_heads,
            overflow_fix=overflow_fix,
            cache=calib_cache or default_cache(),
        )
    with _progress() as progress:
        total = None if calibration else steps(network, targets) + 1  # how many models a gate tries is not known before
        bar = progress.add_task("read pictures", total=total)

        def say(step: str) -> None:
            progress.update(bar, advance=1, description=step)

        pictures = picture_sample(verify, verify_count, network) if verify else None

        def tick(done: int, whole: int) -> None:
            progress.update(bar, completed=done, total=whole)

        made = export_bundles(network, targets, out, settled, pictures, opset or OPSET, say, calibration, tick)
        progress.update(bar, completed=1, total=1, description="done")
    _report(made, as_json)


def _network(arch: str, weights: Path | None, model: str, contract: Path | None, skeleton: str) -> Network:
    if bool(arch) == bool(model):
        raise typer.BadParameter("give either --arch (with --weights) or --model")
    if model:
        _refuse_unread("is for --arch: the contract of --model says its skeleton", skeleton=skeleton or None)
        return network_from_model(model, weights, _contract(contract))
    _refuse_unread("is for --model: an --arch has its own", contract=contract)
    return network_from_architecture(arch, weights, _skeleton(skeleton))


def _refuse_idle(**options: object) -> None:
    """A gate that nobody asks must not look as if it held."""
    _refuse_unread("is for INT8 that is calibrated here: wants --calib, an INT8 target and a network that is no IR", **options)


def _refuse_unread(why: str, **options: object) -> None:
    """What is given and would not be looked at, by its name on the command line."""
    for name, value in options.items():
        if value is not None:
            raise typer.BadParameter(why, param_hint=f"--{name.replace('_', '-')}")


def _check_opset(opset: int | None, network: Network) -> None:
    """Above what onnx knows the exporter falls back on its own, without a word."""
    if not (network.module or network.program):
        _refuse_unread("is for a PyTorch network: a model file keeps its own", opset=opset)
    elif opset and opset > (newest := import_onnx().defs.onnx_opset_version()):
        raise typer.BadParameter(f"{opset}: the newest that onnx knows here is {newest}", param_hint="--opset")


def _gate(max_ap_drop: float | None, min_oks: float | None, coco: Path | None) -> Gate:
    if max_ap_drop is not None and coco is None:
        raise typer.BadParameter("wants --coco and --images", param_hint="--max-ap-drop")
    if max_ap_drop is not None and not abs(max_ap_drop) <= 1:  # nan too, with which no comparison holds
        raise typer.BadParameter(f"{max_ap_drop:g}: wanted a difference of AP, e.g. 0.01", param_hint="--max-ap-drop")
    if min_oks is not None and not 0 <= min_oks <= 1:
        raise typer.BadParameter(f"{min_oks:g}: wanted an OKS from 0 to 1", param_hint="--min-oks")
    if max_ap_drop is None and min_oks is None:
        return DEFAULT_AP_GATE if coco else DEFAULT_GATE
    return Gate(max_ap_drop, min_oks)


def _labels(coco: Path | None, images: Path | None) -> CocoLabels | None:
    if (coco is None) != (images is None):
        raise typer.BadParameter("--coco and --images belong together")
    return CocoLabels(coco, images) if coco and images else None


def _contract(path: Path | None) -> ModelContract | None:
    return contract_from_json(path) if path else None


def _skeleton(text: str) -> Skeleton | None:
    if not text:
        return None
    return skeleton_from_json(Path(text)) if text.endswith(".json") else skeleton_named(text)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"{text!r}: wanted HEIGHTxWIDTH, e.g. 256x456", param_hint="--input-size")
    return int(height), int(width)


def _batch(text: str, network: Network) -> Batch:
    if text and text != "dynamic" and not (text.isdecimal() and int(text)):
        raise typer.BadParameter(f"{text!r}: wanted a number or 'dynamic'", param_hint="--batch")
    asked: Batch | None = "dynamic" if text == "dynamic" else int(text) if text else None
    if network.batch is not None and asked not in (None, network.batch):
        raise ConfigError(f"--batch {text}: {network.source.network} was made for a batch of {network.batch} and cannot be changed here")
    return network.batch or asked or 1


def _renamed(network: Network, name: str) -> Network:
    if Path(name).name != name or name.startswith("."):
        raise typer.BadParameter(f"{name!r}: wanted a plain file name", param_hint="--name")
    return replace(network, name=name)


def picture_sample(path: Path, count: int, network: Network) -> Pictures:
    """Up to `count` pictures of a picture, folder or video, spread evenly, fitted for the network: (n, height, width, 3) BGR."""
    source = open_source(path)
    every = max(1, (source.count or count) // count)
    if isinstance(source, PictureSource):
        source, every = PictureSource(source.paths[::every]), 1
    spread = (frame.picture for frame in source.frames() if frame.index % every == 0)
    return fitted_pictures(islice(spread, count), network)


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    return console.progress(*columns, TimeElapsedColumn())


def _report(made: Sequence[Export], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_summary(one) for one in made], indent=1))
        return
    messages = console.messages()
    messages.print(_table(made))
    for doubt in made[0].doubts:
        messages.print(doubt, highlight=False)
    for one in made:
        messages.print(f"{escape(str(one.bundle.path))}  [dim]{one.execution}[/dim]", highlight=False)
        if (accuracy := one.bundle.manifest.accuracy) and (calibration := one.bundle.manifest.calibration):
            messages.print(f"  {_calibrated(calibration, accuracy)}", highlight=False)


def _calibrated(calibration: CalibrationRecord, accuracy: AccuracyRecord) -> str:
    ap = f"AP {accuracy.ap:.4f} (FP32 {accuracy.ap_fp32:.4f}), " if accuracy.ap is not None and accuracy.ap_fp32 is not None else ""
    people = f"OKS {accuracy.oks_mean:.4f} over {accuracy.persons} people, {accuracy.missed} missed, {accuracy.extra} extra"
    return f"{calibration.calibrator}, {calibration.int8_share:.1%} of the multiplications in INT8: {ap}{people}; see calibration.html"


def _summary(one: Export) -> dict[str, Any]:
    manifest = one.bundle.manifest
    return {
        "bundle": str(one.bundle.path),
        "target": manifest.target,
        "bytes": sum(f.bytes for f in manifest.files.values()),
        "executed": asdict(one.execution),
        "tools": manifest.tools,
        "source": manifest.source.model_dump(),
        "calibration": manifest.calibration.model_dump(mode="json") if manifest.calibration else None,
        "accuracy": manifest.accuracy.model_dump(mode="json") if manifest.accuracy else None,
        "parity": [hop.model_dump(mode="json") for hop in manifest.parity],
        "doubts": one.doubts,
    }


def _table(made: Sequence[Export]) -> Table:
    """One row a hop, narrow enough for a terminal of 80 columns."""
    hops = list(dict.fromkeys(hop for one in made for hop in one.bundle.manifest.parity))
    pictures = f"{hops[0].pictures} {'pieces of structured noise' if hops[0].noise else 'pictures'}"
    outputs = [escape(tensor.tensor) for tensor in hops[0].tensors]
    title = f"Parity on {pictures}: relative RMSE of {' and '.join(outputs)}, poses by OKS"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in ("hop", *outputs, "allowed", "persons", "OKS min", "mean", "missed", "extra"):
        table.add_column(heading, justify="left" if heading == "hop" else "right", no_wrap=True)
    for hop in hops:
        table.add_row(hop.hop.replace(" -> ", "→"), *_figures(hop))
    return table


def _figures(hop: HopParity) -> list[str]:
    errors = [f"{tensor.relative_rmse:.1e}" for tensor in hop.tensors]
    poses = hop.poses
    oks = ([f"{poses.oks_min:.4f}", f"{poses.oks_mean:.4f}"] if poses.persons else ["", ""]) if poses else []
    people = [str(poses.persons), *oks, str(poses.missed), str(poses.extra)] if poses else []
    return [*errors, f"{hop.tensors[0].tolerance:.0e}", *people]
