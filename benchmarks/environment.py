"""Where a figure was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgepose.benchmarks.power import power_state
from edgepose.engines.profile import processor_name
from edgepose.runtime.paf import INSTRUCTION_SETS

_LOW_PRECISION = {"avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16", "asimdhp"}


def environment() -> dict[str, object]:
    """For results: processor, the cores that this process may use, instruction sets of the parser, the INT8 and BF16 that the processor
    computes, power mode, versions."""
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "instruction_sets": list(INSTRUCTION_SETS),
        "arithmetic": _arithmetic(),
        "power_mode": power_state().mode,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        **{name: version(name) for name in ("edgepose", "openvino", "onnxruntime") if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _arithmetic() -> list[str]:
    """By Linux's names, x86 and ARM; empty where it does not say."""
    return sorted({word for line in _cpuinfo() if line.startswith(("flags", "Features")) for word in line.split()} & _LOW_PRECISION)


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
