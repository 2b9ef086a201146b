"""OpenVINO: u8 pictures in, everything else (channel order, mean, scale, layout) inside the compiled graph.

Input and output buffers are NumPy arrays shared with the request, so nothing is copied on the way in or out. The precision of the
arithmetic is set from the bundle and then read back from the executed graph; OpenVINO's own default is never relied on.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Execution, Flight, Maps, check_outputs
from edgepose.engines.errors import BackendUnavailable, EngineLoadError, InferenceFailed, ShapeMismatch
from edgepose.engines.target import Precision

if TYPE_CHECKING:
    import openvino as ov


_CORE = Lock()
_COMPUTE = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
_ARITHMETIC = frozenset({"f32", "f16", "bf16", "i8", "u8"})
# What each target asks the device to compute in.
_HINT = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def engine_from_ir(
    path: Path, contract: ModelContract, precision: Precision, device: str, slots: int, batch: int, exact: bool = False
) -> OpenVinoEngine:
    """Compiles an IR (or ONNX) file; `exact` has an INT8 network's other layers computed in FP32.

    Raises BackendUnavailable, EngineLoadError or ShapeMismatch.
    """
    compiled, execution = compile_model(read_model(path), contract, precision, device, slots, batch, exact)
    return OpenVinoEngine(compiled, contract, execution, slots, batch)


def compile_model(
    model: ov.Model, contract: ModelContract, precision: Precision, device: str, slots: int, batch: int, exact: bool = False
) -> tuple[ov.CompiledModel, Execution]:
    """Adds the contract's preprocessing and compiles for u8 (batch, height, width, 3) BGR pictures; `model` is changed.

    The first input of the result is the pictures; outputs keep the model's order. Raises as `engine_from_ir`.
    """
    ov, core = import_openvino(), openvino_core()
    device, why = _device(core, device)
    hint = "f32" if exact else _precision_hint(core, device, precision)
    _reshape(model, contract, batch)
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY" if slots == 1 else "THROUGHPUT"}
    if slots > 1:
        options["PERFORMANCE_HINT_NUM_REQUESTS"] = str(slots)
    try:
        compiled = core.compile_model(_with_preprocessing(model, contract), device, options)
    except RuntimeError as error:
        raise EngineLoadError(f"OpenVINO cannot compile the model for {device}: {_reason(error)}") from error
    execution = Execution(f"OpenVINO {ov.__version__.split('-')[0]}", device, why, *executed_work(compiled))
    _verify_precision(execution, precision, hint)
    return compiled, execution


def import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendUnavailable("OpenVINO is not installed: pip install 'edgepose[openvino]'") from error
    return openvino


def openvino_core() -> ov.Core:
    """The process's one Core. Each has a CPU plugin of its own, which gives the thread that first uses it a stack for signal handlers and
    frees that with itself, in whatever thread; the next signal would be handled on freed memory (OpenVINO 2026.4.1: SIGSEGV).

    It copies weights: mapped, as is the default, a file that somebody overwrites in place ends the process (SIGBUS).
    """
    with _CORE:  # two threads that come first would make two
        return _core()


@cache
def _core() -> ov.Core:
    core: ov.Core = import_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})
    return core


def read_model(path: Path) -> ov.Model:
    """Reads an IR or ONNX file. Raises EngineLoadError in one line."""
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        raise EngineLoadError(f"{path}: OpenVINO cannot read it ({_reason(error)}): export it again") from error


def executed_work(compiled: ov.CompiledModel) -> tuple[dict[str, int], dict[str, int]]:
    """How many convolutions and matrix products ran in which arithmetic, and how many multiplications, from the executed graph.

    The name of the kernel ends in it (`brgconv_avx512_f32`). `runtimePrecision` is only a substitute: for FP16 weights that an FP32
    kernel reads it says f16.
    """
    layers: Counter[str] = Counter()
    work: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kind = _text(info["layerType"])
        if kind in _COMPUTE:
            kernel = _text(info["primitiveType"]).rsplit("_", 1)[-1]
            arithmetic = kernel if kernel in _ARITHMETIC else _text(info["runtimePrecision"])
            layers[arithmetic] += 1
            work[arithmetic] += _multiplications(op, kind)
    return dict(layers), dict(work)


def _multiplications(op: ov.Node, kind: str) -> int:
    """A convolution applies all its weights at every cell of its output, a transposed one at every cell of its input."""
    data, weights, result = (list(port.get_shape()) for port in (op.input(0), op.input(1), op.output(0)))
    if kind in ("FullyConnected", "MatMul"):
        return int(math.prod(result) * data[-1])
    cells = (data if kind == "Deconvolution" else result)[2:]
    return int(math.prod([data[0], *cells, *weights]))


def computes_bf16(device: str) -> bool:
    """Whether a device has BF16 arithmetic of its own."""
    return "BF16" in openvino_core().get_property(device, "OPTIMIZATION_CAPABILITIES")


class OpenVinoSlot:
    """One infer request with its own input and output arrays."""

    def __init__(self, compiled: ov.CompiledModel, contract: ModelContract, batch: int) -> None:
        ov = import_openvino()
        h, w = contract.map_hw
        output = contract.output
        self._pictures = np.zeros((batch, contract.input.height, contract.input.width, 3), np.uint8)
        self._maps = Maps(
            np.empty((batch, output.heatmap_channels, h, w), np.float32), np.empty((batch, output.paf_channels, h, w), np.float32)
        )
        self._flight = Flight()
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self._pictures, shared_memory=True))
        self._request.set_tensor(output.heatmaps, ov.Tensor(self._maps.heatmaps, shared_memory=True))
        self._request.set_tensor(output.pafs, ov.Tensor(self._maps.pafs, shared_memory=True))

    @property
    def pictures(self) -> NDArray[np.uint8]:
        return self._pictures

    def start(self) -> None:
        self._flight.begin()
        try:
            self._request.start_async()
        except RuntimeError as error:
            self._flight.end()
            raise InferenceFailed(f"OpenVINO: {_reason(error)}") from error

    def wait(self) -> Maps:
        self._flight.end()
        try:
            self._request.wait()
        except RuntimeError as error:
            raise InferenceFailed(f"OpenVINO: {_reason(error)}") from error
        return self._maps

    def drain(self) -> None:
        self._flight.drain(self.wait)

    def __del__(self) -> None:
        """Whoever forgets a slot in flight: the request goes on writing into its arrays."""
        if "_request" in self.__dict__:
            self.drain()


class OpenVinoEngine:
    """A compiled model and its ring of slots."""

    def __init__(self, compiled: ov.CompiledModel, contract: ModelContract, execution: Execution, slots: int, batch: int) -> None:
        self.contract = contract
        self.execution = execution
        self._slots = tuple(OpenVinoSlot(compiled, contract, batch) for _ in range(slots))

    @property
    def slots(self) -> tuple[OpenVinoSlot, ...]:
        return self._slots

    def close(self) -> None:
        for slot in self._slots:
            slot.drain()
        self._slots = ()


def _device(core: ov.Core, asked: str) -> tuple[str, str]:
    """The device to use and why."""
    available: list[str] = core.available_devices
    if asked.lower() == "auto":
        device = "GPU" if any(name.startswith("GPU") for name in available) else "CPU"
        return device, f"chosen from {', '.join(available)}"
    if asked.upper().split(".")[0] not in {name.split(".")[0] for name in available}:
        raise BackendUnavailable(f"OpenVINO device {asked!r} is not on this machine: it has {', '.join(available)}")
    return asked.upper(), "asked for"


def _precision_hint(core: ov.Core, device: str, precision: Precision) -> str:
    """BF16 is refused where the device lacks it. FP16 weights are computed in FP32 on a CPU, whether or not it has FP16 arithmetic,
    so that a bundle gives the same poses on every CPU. What an INT8 network leaves in floating point takes the fastest arithmetic there
    is: in FP32 it would cost more than its INT8 layers together."""
    able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in able:
        raise BackendUnavailable(f"{device} computes in {', '.join(able)}, the bundle wants BF16: export and use ov-fp32 instead")
    on_cpu = device.startswith("CPU")
    if precision == "int8":
        return "bf16" if "BF16" in able else "f32" if on_cpu or "FP16" not in able else "f16"
    return "f32" if precision == "fp16" and (on_cpu or "FP16" not in able) else _HINT[precision]


def _reshape(model: ov.Model, contract: ModelContract, batch: int) -> None:
    if len(model.inputs) != 1:
        raise ShapeMismatch(f"the model has {len(model.inputs)} inputs: wanted one picture tensor")
    wanted = [batch, 3, contract.input.height, contract.input.width]
    found = model.input().get_partial_shape()
    if found.is_static and list(found.to_shape()) != wanted:
        raise ShapeMismatch(
            f"the model's input is {list(found.to_shape())}, the contract wants {wanted}: correct the contract or export again"
        )
    if found.is_dynamic:
        model.reshape(wanted)


def _with_preprocessing(model: ov.Model, contract: ModelContract) -> ov.Model:
    ov = import_openvino()
    from openvino.preprocess import ColorFormat, PrePostProcessor

    _check_output_shapes(model, contract)
    prepost = PrePostProcessor(model)
    picture = prepost.input()
    picture.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    picture.model().set_layout(ov.Layout("NCHW"))
    steps = picture.preprocess().convert_element_type(ov.Type.f32)
    if contract.input.channels == "RGB":
        steps = steps.convert_color(ColorFormat.RGB)
    steps.mean(list(contract.input.mean)).scale(list(contract.input.std))
    for name in (contract.output.heatmaps, contract.output.pafs):
        prepost.output(name).tensor().set_element_type(ov.Type.f32)
    return prepost.build()


def _check_output_shapes(model: ov.Model, contract: ModelContract) -> None:
    shapes = {}
    for name in (contract.output.heatmaps, contract.output.pafs):
        try:
            shapes[name] = tuple(model.output(name).get_partial_shape().to_shape())[1:]
        except RuntimeError as error:
            names = sorted(n for output in model.outputs for n in output.get_names())
            raise ShapeMismatch(
                f"the model has no output {name!r} of a fixed shape: it has {', '.join(names)}; correct the contract"
            ) from error
    check_outputs(contract, shapes[contract.output.heatmaps], shapes[contract.output.pafs], "the model")


def _verify_precision(execution: Execution, precision: Precision, hint: str) -> None:
    """The executed graph must hold what was asked for: no lower arithmetic in FP32, the asked one in BF16, INT8 in INT8."""
    found = execution.precisions
    low = {p: n for p, n in found.items() if p != "f32"}
    wanted = {"bf16": ("bf16",), "int8": ("u8", "i8")}.get(precision)
    if hint == "f32" and precision != "int8" and low:
        raise EngineLoadError(f"asked for FP32 arithmetic, {execution} ran: report this with the OpenVINO version")
    if wanted and found and not any(p in found for p in wanted):
        raise EngineLoadError(f"asked for {precision} arithmetic, {execution} ran: this device does not compute it; use ov-fp32")


def _text(info: Any) -> str:
    return str(info.value if hasattr(info, "value") else info)


def _reason(error: Exception) -> str:
    """OpenVINO's exceptions open with source locations; the last line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
