"""`open_engine`: from a bundle to a running engine."""

from __future__ import annotations

import logging
from pathlib import Path

from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.engine import Engine
from edgepose.engines.errors import BackendUnavailable, ConfigError, ShapeMismatch

logger = logging.getLogger(__name__)


def open_engine(bundle: Bundle | Path | str, device: str = "auto", slots: int = 1, batch: int | None = None, build: bool = True) -> Engine:
    """Opens a bundle's model on a device, with `slots` inferences in flight of `batch` pictures each.

    `device` is the backend's own name (`CPU`, `GPU`, ...); `auto` chooses, and `engine.execution` says what and why; `CPU` on a `trt-*`
    bundle simulates its arithmetic by ONNX Runtime, any other device builds its plan where there is none, unless `build` is False. `batch`
    defaults to the bundle's (1 where it is dynamic).

    Raises BackendUnavailable, EngineLoadError, ShapeMismatch, BundleCorrupt or BundleStale.
    """
    if slots < 1:
        raise ConfigError(f"{slots} slots: wanted at least one")
    if not isinstance(bundle, Bundle):
        bundle = open_bundle(Path(bundle))
    size = _batch(bundle, batch)
    if bundle.target.backend == "openvino":
        from edgepose.engines.openvino_ import engine_from_ir

        return engine_from_ir(bundle.model_path, bundle.contract, bundle.target.precision, device, slots, size)
    from edgepose.engines.onnxruntime_ import engine_from_onnx

    for_tensorrt = bundle.target.backend == "tensorrt"
    if for_tensorrt and device.upper() != "CPU":
        return _tensorrt_engine(bundle, device, slots, size, build)
    return engine_from_onnx(bundle.model_path, bundle.contract, device, slots, size, for_tensorrt)


def _tensorrt_engine(bundle: Bundle, device: str, slots: int, batch: int, build: bool) -> Engine:
    from edgepose.engines.gpu import find_gpu
    from edgepose.engines.tensorrt_.bindings import import_tensorrt
    from edgepose.engines.tensorrt_.build import built_plan
    from edgepose.engines.tensorrt_.engine import engine_from_plan
    from edgepose.engines.tensorrt_.plan import BuildSettings

    if device.upper() not in ("AUTO", "GPU", "CUDA"):
        raise BackendUnavailable(f"{bundle.path}: device {device!r}: TensorRT runs on GPU, or --device CPU simulates it")
    try:
        gpu, tensorrt = find_gpu(), import_tensorrt()
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{error}; --device CPU simulates what TensorRT computes, by ONNX Runtime") from error
    settings = BuildSettings(batches=(1 if bundle.manifest.batch == "dynamic" else batch, batch, batch))
    plan = built_plan(bundle, tensorrt, gpu, settings, build, batch, logger.info)
    return engine_from_plan(plan, bundle.contract, tensorrt, gpu, slots, batch)


def _batch(bundle: Bundle, asked: int | None) -> int:
    fixed = bundle.manifest.batch
    if asked is not None and asked < 1:
        raise ConfigError(f"batch of {asked}: wanted at least 1")
    if fixed == "dynamic":
        return asked or 1
    if asked not in (None, fixed):
        raise ShapeMismatch(f"{bundle.path}: made for batches of {fixed}, asked for {asked}: export it with --batch {asked} or dynamic")
    return fixed
