"""The TensorRT that this machine has, and what it can do: asked of the library itself, never of its version string."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepose.engines.errors import BackendUnavailable

_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
HOW_TO_INSTALL = (
    "on a Jetson: sudo apt install python3-libnvinfer, and a virtual environment made with --system-site-packages;"
    " elsewhere: pip install tensorrt-cu12 (or tensorrt-rtx-cu13 on a GeForce); see docs/jetson.md"
)


Log = Callable[[str, str], None]
"""Told (severity, message): error, warning, info, or layer, a line of the finished plan's list of layers."""


@dataclass(frozen=True, slots=True)
class TensorRt:
    """`module` is the vendor's. Strongly typed networks take every precision from the ONNX file; where they do not exist
    (TensorRT 8), builder flags allow what the file holds."""

    module: Any
    name: str
    version: str

    @property
    def strongly_typed(self) -> bool:
        return hasattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def explicit_batch_flag(self) -> bool:
        return hasattr(self.module.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")

    @property
    def precision_flags(self) -> tuple[str, ...]:
        """Those of FP16 and INT8 that the builder has."""
        return tuple(name for name in ("FP16", "INT8") if hasattr(self.module.BuilderFlag, name))

    @property
    def progress(self) -> bool:
        return hasattr(self.module, "IProgressMonitor") and hasattr(self.module.IBuilderConfig, "progress_monitor")

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def import_tensorrt() -> TensorRt:
    """Raises BackendUnavailable where there is none, or where its libraries do not load."""
    broken = []
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                broken.append(f"{name}: {error}")
            continue
        except (ImportError, OSError, RuntimeError) as error:
            broken.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        return TensorRt(module, "TensorRT-RTX" if "rtx" in name else "TensorRT", module.__version__)
    if broken:
        raise BackendUnavailable(f"TensorRT is installed but does not load ({'; '.join(broken)}): {HOW_TO_INSTALL}")
    raise BackendUnavailable(f"TensorRT is not installed: {HOW_TO_INSTALL}")


def logger_for(tensorrt: TensorRt, log: Log) -> Any:
    """TensorRT's logger, told to `log`; of the verbose messages only the list of layers."""
    trt = tensorrt.module
    severity = trt.ILogger.Severity
    names = {severity.INTERNAL_ERROR: "error", severity.ERROR: "error", severity.WARNING: "warning", severity.INFO: "info"}

    class Logger(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in names:
                log(names[severity], message)
            elif "LayerType:" in message:
                for line in message.splitlines():
                    if "LayerType:" in line:
                        log("layer", line.strip())

    return Logger()
