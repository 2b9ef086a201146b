"""`plan_from_onnx`: the network in an ONNX file, built by TensorRT for the GPU of this machine.

The same code serves TensorRT 8.5 to 11 and TensorRT-RTX: precision lies in the file, so a strongly typed network is asked for where there
is one, and TensorRT 8 is given the flags that allow what the file holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgepose.engines.errors import BackendUnavailable, EngineLoadError
from edgepose.engines.target import Precision
from edgepose.engines.tensorrt_.bindings import Log, TensorRt, logger_for
from edgepose.engines.tensorrt_.islands import pin_islands
from edgepose.engines.tensorrt_.plan import BuildSettings

_LOW_MEMORY_MIB = 128
_LOW_MEMORY_LEVEL = 2
Progress = Callable[[str, int, int], bool]
"""Told (phase, done, all) as the build goes on; answers whether to go on."""


def plan_from_onnx(
    onnx: Path,
    tensorrt: TensorRt,
    precision: Precision,
    settings: BuildSettings,
    timing_cache: Path | None,
    log: Log,
    progress: Progress,
) -> bytes:
    """The serialised plan. `timing_cache` is read where it exists and written back.

    Raises BackendUnavailable where there is no GPU, EngineLoadError where TensorRT refuses the file, where a DLA core would leave layers to
    the GPU unasked, and where nothing comes of the build.
    """
    trt = tensorrt.module
    logger = logger_for(tensorrt, log)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # how its Python module reports a null builder
        raise BackendUnavailable(f"{tensorrt} finds no GPU to build for: check nvidia-smi, or the container's --runtime nvidia") from error
    network = builder.create_network(_network_flags(tensorrt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        raise EngineLoadError(f"{onnx}: {tensorrt} cannot read it ({_parser_errors(parser)}): export it again with this edgepose")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else neither log nor inspector tells what a layer computes in
    _set_precision(tensorrt, config, network, precision, log)
    _set_memory(trt, config, settings)
    _set_batches(trt, builder, config, network, settings.batches)
    _set_compatibility(tensorrt, config, settings)
    if settings.dla_core is not None:
        _set_dla(trt, config, network, settings.dla_core, settings.gpu_fallback, log)
    if tensorrt.progress:
        config.progress_monitor = _monitor(trt, progress)
    cache = _timing_cache(config, timing_cache, log)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineLoadError(f"{onnx}: {tensorrt} built nothing: its log says why")
    if cache is not None and timing_cache is not None:
        _keep(bytes(config.get_timing_cache().serialize()), timing_cache, log)
    return bytes(plan)


def _network_flags(tensorrt: TensorRt) -> int:
    flags = tensorrt.module.NetworkDefinitionCreationFlag
    if tensorrt.strongly_typed:
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH) if tensorrt.explicit_batch_flag else 0


def _set_precision(tensorrt: TensorRt, config: Any, network: Any, precision: Precision, log: Log) -> None:
    """Flags are permissions: without strong typing, what the file holds in FP16 or INT8 needs them, and what it holds in FP32 has to be
    pinned against them. FP32 means FP32, not TF32.
    """
    if precision == "fp32":
        config.clear_flag(tensorrt.module.BuilderFlag.TF32)
        return
    if tensorrt.strongly_typed:
        return
    for name in {"fp16": ("FP16",), "int8": ("FP16", "INT8")}.get(precision, ()):
        config.set_flag(getattr(tensorrt.module.BuilderFlag, name))
    if pinned := pin_islands(tensorrt, network, config):
        log("info", f"{len(pinned)} layers stay in FP32: {', '.join(pinned[:8])}")


def _set_memory(trt: Any, config: Any, settings: BuildSettings) -> None:
    mib = min(settings.workspace_mib, _LOW_MEMORY_MIB) if settings.low_memory else settings.workspace_mib
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, mib << 20)
    if settings.low_memory and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = _LOW_MEMORY_LEVEL


def _set_batches(trt: Any, builder: Any, config: Any, network: Any, batches: Sequence[int]) -> None:
    """A profile where the file's batch is dynamic, which TensorRT 8.6 lets several slots share only if asked, and 8.5 not at all."""
    entry = network.get_input(0)
    batch, *rest = entry.shape
    if batch == -1:
        profile = builder.create_optimization_profile()
        profile.set_shape(entry.name, *((size, *rest) for size in batches))
        config.add_optimization_profile(profile)
        if hasattr(trt, "PreviewFeature") and hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
            config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)


def _set_compatibility(tensorrt: TensorRt, config: Any, settings: BuildSettings) -> None:
    trt = tensorrt.module
    if settings.hardware_compatible:
        if not (hasattr(trt, "HardwareCompatibilityLevel") and hasattr(config, "hardware_compatibility_level")):
            raise EngineLoadError(f"{tensorrt} builds no plans for other GPUs: build on each device, without hardware_compatible")
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.version_compatible:
        if not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
            raise EngineLoadError(f"{tensorrt} builds no plans for other versions: build on each device, without version_compatible")
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def _set_dla(trt: Any, config: Any, network: Any, core: int, fallback: bool, log: Log) -> None:
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    left = [layer.name for layer in layers if layer.type != trt.LayerType.CONSTANT and not config.can_run_on_DLA(layer)]
    if left and not fallback:
        shown = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        raise EngineLoadError(
            f"DLA core {core} cannot run {len(left)} of {len(layers)} layers ({shown}): allow them on the GPU, or use it alone"
        )
    for name in left:
        log("warning", f"layer {name} runs on the GPU: the DLA cannot run it")
    if left:
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _keep(timings: bytes, place: Path, log: Log) -> None:
    """For the next build; a plan that took minutes is not lost because its timings cannot be kept."""
    part = place.with_suffix(f".{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(timings)
        os.replace(part, place)
    except OSError as error:
        log("warning", f"{place}: {error.strerror or error}: the next build measures everything again")


def _timing_cache(config: Any, path: Path | None, log: Log) -> Any:
    """What was measured in earlier builds on this machine; TensorRT itself refuses another device's."""
    if path is None:
        return None
    try:
        found = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        log("warning", f"{path}: {error.strerror or error}: everything is measured again")
        found = b""
    cache = config.create_timing_cache(found)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        if cache is None or not config.set_timing_cache(cache, False):
            return None
    return cache


def _parser_errors(parser: Any) -> str:
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    return "; ".join(f"node {error.node()}: {' '.join(error.desc().split())}" for error in found[:3]) or "it names no error"


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress(phase_name, step, self.steps.get(phase_name, 0))

    return Monitor()
