"""`pose-build`: makes a bundle ready on the device it will run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgepose.engines import console
from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import ConfigError
from edgepose.engines.gpu import find_gpu
from edgepose.engines.tensorrt_.bindings import import_tensorrt
from edgepose.engines.tensorrt_.build import built_plan
from edgepose.engines.tensorrt_.plan import BuildSettings

app = typer.Typer(name="pose-build", add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    console.run(app)


@app.command()
def build(
    bundle: Annotated[Path, typer.Argument(help="A trt-* bundle made by pose-export")],
    workspace: Annotated[int, typer.Option(min=1, max=1 << 20, help="Memory that the builder's tactics may use, MiB")] = 1024,
    low_memory: Annotated[bool, typer.Option("--low-memory", help="For boards of 4 or 8 GB: smaller workspace, fewer tactics")] = False,
    batches: Annotated[str, typer.Option(help="For a dynamic batch: LEAST,BEST,MOST; default 1,1,1", metavar="N,N,N")] = "",
    dla: Annotated[int | None, typer.Option(min=0, max=1, help="Run on this DLA core")] = None,
    gpu_fallback: Annotated[bool, typer.Option("--gpu-fallback", help="Layers that the DLA cannot run go to the GPU")] = False,
    hardware_compatible: Annotated[bool, typer.Option("--hardware-compatible", help="For every GPU from Ampere on; slower")] = False,
    version_compatible: Annotated[bool, typer.Option("--version-compatible", help="For later TensorRTs too; slower")] = False,
    json_: Annotated[bool, typer.Option("--json", help="The plan's record as JSON on stdout")] = False,
) -> None:
    """Builds the TensorRT plan of a bundle for this machine, unless it is there already; needs no PyTorch."""
    opened = open_bundle(bundle)
    if opened.target.backend != "tensorrt":
        raise ConfigError(f"{bundle} is {opened.target.name}: it needs no build; pose-build is for trt-* bundles")
    settings = BuildSettings(
        workspace_mib=workspace,
        low_memory=low_memory,
        dla_core=dla,
        gpu_fallback=gpu_fallback,
        batches=_batches(batches, opened.manifest.batch),
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
    )
    messages = console.messages()
    tensorrt, gpu = import_tensorrt(), find_gpu()
    with console.progress() as bar:
        task = bar.add_task("build", total=None)
        plan = built_plan(
            opened,
            tensorrt,
            gpu,
            settings,
            say=lambda line: messages.print(line, highlight=False),
            tick=lambda phase, done, all_: bar.update(task, description=phase[:40], completed=done, total=all_ or None),
        )
    record = plan.record
    if json_:
        typer.echo(json.dumps({"plan": str(plan.path), **record.model_dump(mode="json")}, indent=1))
        return
    layers = ", ".join(f"{count} {arithmetic}" for arithmetic, count in record.layers.items()) or "not told"
    messages.print(f"{plan.path}: {record.plan.bytes >> 20} MiB, built in {record.seconds:.0f} s; convolutions: {layers}", highlight=False)


def _batches(text: str, fixed: int | Literal["dynamic"]) -> tuple[int, int, int]:
    if fixed == "dynamic":
        return _three(text or "1,1,1")
    if text and _three(text) != (fixed,) * 3:
        raise typer.BadParameter(f"this bundle is made for batches of {fixed}: export it with --batch dynamic", param_hint="--batches")
    return (fixed,) * 3


def _three(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise typer.BadParameter(f"{text!r}: wanted three numbers, e.g. 1,4,8", param_hint="--batches")
    least, best, most = (int(part) for part in parts)
    if not least <= best <= most:
        raise typer.BadParameter(f"{text!r}: wanted them in ascending order", param_hint="--batches")
    return least, best, most
