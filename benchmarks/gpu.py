"""What has to hold on a GPU, measured on one: outputs against the simulation, overheads, graphs, preprocessing, leaks."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.benchmarks.engine import pictures_per_second
from edgepose.calibration.oks import agreement
from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.camera_picture import CameraPicture, PixelFormat
from edgepose.engines.cuda import Cuda, Stream
from edgepose.engines.cuda_preprocess import CudaPreprocess, kernel_parameters
from edgepose.engines.engine import Engine
from edgepose.engines.errors import ConfigError
from edgepose.engines.gpu import Gpu, find_gpu
from edgepose.engines.registry import open_engine
from edgepose.engines.tensorrt_.bindings import TensorRt, import_tensorrt
from edgepose.engines.tensorrt_.build import built_plan
from edgepose.engines.tensorrt_.engine import TensorRtEngine, engine_from_plan
from edgepose.engines.tensorrt_.plan import BuildSettings, Plan
from edgepose.runtime.estimator import PoseEstimator
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sources import picture_from_file

_RMSE = {"fp32": 1e-4, "fp16": 2e-3}
_LEAST_INT8_OKS = 0.95
_SURE = 0.2
"""Score of people whom FP32 is sure of; weaker ones come and go with any rounding."""
_SLOTS = 3
_TURNS = 5
_CAMERA_WH = (1280, 720)


@dataclass(frozen=True, slots=True)
class Check:
    """One figure; it holds when `value` is at most `limit`, or with `at_least` not below it."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def gpu_checks(bundles: Sequence[Path], pictures: Sequence[Path], seconds: float, opens: int, say: Callable[[str], None]) -> list[Check]:
    """All checks on `trt-*` bundles of one network, of which one is FP32. Raises BackendUnavailable without GPU or TensorRT."""
    gpu, tensorrt = find_gpu(), import_tensorrt()
    opened = {bundle.target.precision: bundle for bundle in map(open_bundle, bundles)}
    if "fp32" not in opened:
        raise ConfigError("the checks compare with FP32: give a trt-fp32 bundle among the others")
    plans = {precision: built_plan(bundle, tensorrt, gpu, BuildSettings(), batch=1, say=say) for precision, bundle in opened.items()}
    found: list[Check] = []
    for precision, bundle in opened.items():
        say(f"outputs of {bundle.path.name}")
        found += _outputs(bundle, opened["fp32"], plans[precision], pictures, tensorrt, gpu)
        say(f"speed of {bundle.path.name}")
        found += _speed(bundle, plans[precision], tensorrt, gpu, seconds)
    say("preprocessing")
    found += _preprocessing(opened["fp32"], gpu, seconds)
    say(f"{opens} engines opened and closed")
    found.append(_leak(opened["fp32"], plans["fp32"], tensorrt, gpu, opens))
    return found


def _outputs(bundle: Bundle, exact: Bundle, plan: Plan, pictures: Sequence[Path], tensorrt: TensorRt, gpu: Gpu) -> Iterator[Check]:
    """Maps against FP32 in ONNX Runtime; for INT8, whose maps differ by design, the people."""
    contract, precision = bundle.contract, bundle.target.precision
    with closing(open_engine(exact, "CPU")) as reference, closing(engine_from_plan(plan, contract, tensorrt, gpu, 1, 1)) as engine:
        if precision == "int8":
            wanted, mine = ([p for _, p in PoseEstimator(e).estimate_all(_read(pictures))] for e in (reference, engine))
            for people, least in (("all people", 0.0), (f"people whose score is at least {_SURE:g}", _SURE)):
                agreed = agreement([poses.above(least) for poses in wanted], mine, contract.skeleton)
                yield Check(f"{bundle.target.name}: OKS against FP32, {people}", float(np.mean(agreed.oks)), _LEAST_INT8_OKS, True)
            return
        pairs = [(_maps(reference, path), _maps(engine, path)) for path in pictures]
        for side, name in enumerate(("heatmaps", "PAFs")):
            error = sum(float(np.square(b[side] - a[side]).sum()) for a, b in pairs)
            power = sum(float(np.square(a[side]).sum()) for a, _ in pairs)
            yield Check(f"{bundle.target.name}: relative RMSE of {name}", (error / power) ** 0.5, _RMSE[precision])


def _speed(bundle: Bundle, plan: Plan, tensorrt: TensorRt, gpu: Gpu, seconds: float) -> Iterator[Check]:
    name, contract = bundle.target.name, bundle.contract
    with ExitStack() as stack:
        engines = {graphs: engine_from_plan(plan, contract, tensorrt, gpu, _SLOTS, 1, graphs) for graphs in (True, False)}
        for engine in engines.values():
            stack.callback(engine.close)
        turns = [
            (
                _bare_per_second(engines[True], seconds),
                pictures_per_second(engines[True], seconds),
                pictures_per_second(engines[False], seconds),
            )
            for _ in range(_TURNS)
        ]
        bare, whole, plain = np.array(turns).T
        yield Check(f"{name}: us a frame to start, with graphs", _start_us(engines[True]), 60)
        yield Check(f"{name}: part of the bare engine's throughput", float(np.median(whole / bare)), 0.95, True)
        yield Check(f"{name}: graphs over no graphs", float(np.median(whole / plain)), 0.95, True)


def _bare_per_second(engine: TensorRtEngine, seconds: float) -> float:
    """The network alone: no picture goes up, no map comes down."""
    slots = engine.slots
    for slot in slots:
        slot.enqueue_network()
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        slots[done % len(slots)].stream.wait()
        slots[done % len(slots)].enqueue_network()
        done += 1
    for slot in slots:
        slot.stream.wait()
    return done / (time.perf_counter() - begin)


def _start_us(engine: Engine, rounds: int = 200) -> float:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        engine.slots[0].start()
        times.append((time.perf_counter_ns() - begin) / 1e3)
        engine.slots[0].wait()
    return statistics.median(times)


def _preprocessing(bundle: Bundle, gpu: Gpu, seconds: float) -> Iterator[Check]:
    """A camera's frame into the network's input, against a copy of the frame's bytes on the device."""
    cuda, contract = Cuda(), bundle.contract.input
    stream, kernel = cuda.stream(), CudaPreprocess(cuda, gpu.compute_capability)
    w, h = _CAMERA_WH
    frame, copy = cuda.memory(3 * w * h), cuda.memory(3 * w * h)
    out = cuda.memory(3 * contract.height * contract.width * 4)
    picture = CameraPicture(PixelFormat.BGR, _CAMERA_WH, frame.address, 3 * w)
    parameters, _ = kernel_parameters(picture, contract)
    fitting = _seconds_each(stream, seconds, lambda: kernel.launch(stream, parameters, out.address, np.float32))
    copying = _seconds_each(stream, seconds, lambda: stream.on_device(copy.address, frame.address, frame.size))
    yield Check("preprocessing 1280 x 720 over copying its bytes", fitting / copying, 1.5)


def _seconds_each(stream: Stream, seconds: float, put: Callable[[], None], batch: int = 200) -> float:
    put()
    stream.wait()
    times = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        for _ in range(batch):
            put()
        stream.wait()
        times.append((time.perf_counter() - start) / batch)
    return statistics.median(times)


def _leak(bundle: Bundle, plan: Plan, tensorrt: TensorRt, gpu: Gpu, opens: int) -> Check:
    """Device memory that opening and closing an engine `opens` times keeps, after a few rounds that fill the driver's caches."""

    def once() -> None:
        with closing(engine_from_plan(plan, bundle.contract, tensorrt, gpu, 1, 1)) as engine:
            engine.slots[0].start()

    cuda = Cuda()
    for _ in range(5):
        once()
    before = _free_bytes(cuda)
    for _ in range(opens):
        once()
    return Check(f"MiB kept by {opens} opens", (before - _free_bytes(cuda)) / 2**20, 16)


def _free_bytes(cuda: Cuda) -> int:
    free, whole = ctypes.c_size_t(), ctypes.c_size_t()
    cuda.driver("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(whole))
    return free.value


def _read(pictures: Sequence[Path]) -> Iterator[tuple[NDArray[np.uint8], None]]:
    return ((picture_from_file(path), None) for path in pictures)


def _maps(engine: Engine, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    slot = engine.slots[0]
    fit_into(slot.pictures[0], picture_from_file(path), engine.contract.input)
    slot.start()
    maps = slot.wait()
    return maps.heatmaps.copy(), maps.pafs.copy()
