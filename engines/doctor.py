"""What this machine has to run poses on, what each bundle would do here, and what to install; every line works where there is nothing."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.cuda_kernel import find_nvcc, prebuilt_kernel
from edgepose.engines.errors import EdgePoseError
from edgepose.engines.gpu import find_gpu
from edgepose.engines.tensorrt_.bindings import import_tensorrt
from edgepose.engines.tensorrt_.plan import BuildSettings, PlanFolder

_JETPACKS = {"35": "5.1", "36.2": "6.0 (developer preview)", "36.3": "6.0", "36.4": "6.1 or 6.2", "38": "7"}
"""L4T release -> JetPack, from NVIDIA's Jetson Linux archive."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`works` False: it is missing or broken, and `text` says what to do."""

    name: str
    works: bool
    text: str


def findings(bundles: list[Path], root: Path = Path("/")) -> Iterator[Finding]:
    """`root` is where /proc, /sys, /dev and /etc lie."""
    yield Finding("machine", True, _machine(root))
    if (jetson := _jetson(root)) is not None:
        yield Finding("jetson", True, jetson)
    for name, ask in (
        ("gpu", lambda: str(find_gpu()) + f", driver for CUDA {find_gpu().driver_cuda}"),
        ("tensorrt", lambda: str(import_tensorrt())),
        ("cuda kernel", _kernel),
        ("openvino", _openvino),
        ("onnxruntime", _onnxruntime),
    ):
        yield _asked(name, ask)
    yield Finding("cameras", True, ", ".join(_cameras(root)) or "none at /dev/video*")
    for path in bundles:
        yield _asked(path.name, lambda path=path: bundle_outlook(open_bundle(path)))  # type: ignore[misc]


def bundle_outlook(bundle: Bundle) -> str:
    """What opening it here would do. Raises what opening it would."""
    accuracy = bundle.manifest.accuracy
    quality = f"; AP {accuracy.ap:.3f} (FP32 {accuracy.ap_fp32:.3f})" if accuracy and accuracy.ap is not None and accuracy.ap_fp32 else ""
    size = f"{bundle.contract.input.height} x {bundle.contract.input.width}"
    if bundle.target.backend == "tensorrt":
        return f"{bundle.target.name}, {size}: {_plan_outlook(bundle)}{quality}"
    if bundle.target.backend == "openvino":
        return f"{bundle.target.name}, {size}: runs on {_openvino()}{quality}"
    return f"{bundle.target.name}, {size}: runs on {_onnxruntime()}{quality}"


def _plan_outlook(bundle: Bundle) -> str:
    gpu, tensorrt = find_gpu(), import_tensorrt()
    plans, batch = PlanFolder.of(bundle), 1 if bundle.manifest.batch == "dynamic" else bundle.manifest.batch
    plan, reasons = plans.find(plans.key(str(tensorrt), gpu.compute_capability, gpu.name, BuildSettings()), batch=batch)
    if plan is not None:
        return f"runs {plan.path.name}, built by {plan.record.key.tensorrt}"
    return f"would be built first ({'; '.join(reasons) or 'no plan yet'}): run pose-build {bundle.path}"


def _asked(name: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, ask())
    except EdgePoseError as error:
        return Finding(name, False, str(error))


def _machine(root: Path) -> str:
    memory = re.search(r"MemTotal:\s+(\d+)", _text(root / "proc/meminfo"))
    gib = f", {int(memory.group(1)) / 2**20:.1f} GiB" if memory else ""
    name = re.search(r"model name\s*: (.+)", _text(root / "proc/cpuinfo"))
    return f"{name.group(1) if name else platform.machine()}, {len(os.sched_getaffinity(0))} cores{gib}, Python {platform.python_version()}"


def _jetson(root: Path) -> str | None:
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    if not release:
        return None
    l4t = f"{release.group(1)}.{release.group(2)}"
    jetpack = next((name for start, name in _JETPACKS.items() if l4t.startswith(f"{start}.")), "unknown to this edgepose")
    board = _text(root / "sys/firmware/devicetree/base/model").strip("\0\n") or "board not told"
    return f"{board}, L4T {l4t} (JetPack {jetpack}), {_power_mode(root)}"


def _power_mode(root: Path) -> str:
    """nvpmodel keeps the mode's number in one file and its name in another."""
    mode = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if not mode:
        return "power mode not told"
    number = int(mode.group(1))
    name = re.search(rf"< POWER_MODEL ID={number} NAME=(\S+) >", _text(root / "etc/nvpmodel.conf"))
    return f"power mode {number}" + (f" ({name.group(1)})" if name else "")


def _kernel() -> str:
    if prebuilt_kernel() is not None:
        return "prebuilt"
    nvcc = find_nvcc()
    return f"compiled on first use by {nvcc}" if nvcc else "none, and no nvcc to compile one: needed on NVIDIA GPUs only"


def _openvino() -> str:
    from edgepose.engines.openvino_ import import_openvino, openvino_core

    openvino, core = import_openvino(), openvino_core()
    devices = [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME').strip()})" for name in core.available_devices]
    return f"OpenVINO {openvino.__version__.split('-')[0]}: {', '.join(devices)}"


def _onnxruntime() -> str:
    from edgepose.engines.onnxruntime_ import import_onnxruntime

    return f"ONNX Runtime {import_onnxruntime().__version__} on the CPU"


def _cameras(root: Path) -> list[str]:
    entries = sorted((root / "sys/class/video4linux").glob("video*"))
    return [
        f"/dev/{entry.name} ({_text(entry / 'name').strip() or 'unnamed'})" for entry in entries if (root / "dev" / entry.name).exists()
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
