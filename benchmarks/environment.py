"""Where a figure was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgepose.runtime.paf import INSTRUCTION_SETS


def environment() -> dict[str, object]:
    """Processor, instruction sets of the parser, and versions, for a results file."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "instruction_sets": list(INSTRUCTION_SETS),
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


def _processor() -> str:
    """The name that Linux gives it; ARM boards give their board's."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/sys/firmware/devicetree/base/model", "")):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        names = [line.partition(":")[2] for line in text.splitlines() if line.startswith(key)] if key else [text]
        if names:
            return names[0].strip(" \0\t")
    return platform.processor() or "unknown"
