"""`TensorRtEngine`: a plan and its ring of slots, each with its own stream, execution context and buffers.

A slot's picture goes to the device as 8-bit levels and is normalised there by the preprocessing kernel; maps come back into pinned memory.
Where the GPU shares the host's memory, as on a Jetson, neither is copied.
Everything of one inference is in the slot's stream, so nothing but the slot's own event is ever waited for.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.camera_picture import CameraPicture, PixelFormat
from edgepose.engines.contract import ModelContract, Placement
from edgepose.engines.cuda import Cuda, Event, Graph
from edgepose.engines.cuda_preprocess import CudaPreprocess, KernelParameters, kernel_parameters
from edgepose.engines.engine import Execution, Flight, Maps, check_outputs
from edgepose.engines.errors import EngineLoadError, InferenceFailed, ShapeMismatch
from edgepose.engines.gpu import Gpu
from edgepose.engines.tensorrt_.bindings import TensorRt, logger_for
from edgepose.engines.tensorrt_.plan import Plan

logger = logging.getLogger(__name__)


def engine_from_plan(
    plan: Plan, contract: ModelContract, tensorrt: TensorRt, gpu: Gpu, slots: int, batch: int, graphs: bool = True
) -> TensorRtEngine:
    """Loads a plan of this machine. `graphs` has each inference recorded once and launched as one CUDA graph.

    Raises EngineLoadError, ShapeMismatch, or BackendUnavailable where there is no preprocessing kernel.
    """
    told: deque[str] = deque(maxlen=3)
    vendor = logger_for(tensorrt, lambda severity, message: told.append(message) if severity == "error" else None)
    cuda = Cuda()
    runtime = tensorrt.module.Runtime(vendor)
    settings = plan.record.key.settings
    if settings.version_compatible:
        runtime.engine_host_code_allowed = True  # it holds a runtime of its own; the plan's digest has been checked
    if settings.dla_core is not None:
        runtime.DLA_core = settings.dla_core
    loaded = runtime.deserialize_cuda_engine(plan.path.read_bytes())
    if loaded is None:
        raise EngineLoadError(f"{plan.path}: {tensorrt} refuses it ({'; '.join(told) or 'no reason given'}): run pose-build again")
    _check_tensors(loaded, contract, tensorrt)
    preprocess = CudaPreprocess(cuda, gpu.compute_capability)
    execution = Execution(str(tensorrt), gpu.name, f"compute capability {gpu.compute_capability}", plan.record.layers)
    made = tuple(TensorRtSlot(cuda, loaded, preprocess, contract, batch, graphs, gpu.integrated, told) for _ in range(slots))
    return TensorRtEngine(contract, execution, made, (vendor, runtime, loaded, preprocess, cuda))


class TensorRtSlot:
    """One inference in flight. `fit` gives it a camera's pixels on the device instead of `pictures`, for one start."""

    def __init__(
        self,
        cuda: Cuda,
        loaded: Any,
        preprocess: CudaPreprocess,
        contract: ModelContract,
        batch: int,
        graphs: bool,
        shared_memory: bool,
        told: deque[str],
    ) -> None:
        self._cuda, self._preprocess, self._contract, self._told = cuda, preprocess, contract.input, told
        (h, w), (rows, columns), output = (contract.input.height, contract.input.width), contract.map_hw, contract.output
        self._context = loaded.create_execution_context()
        if self._context is None:
            raise EngineLoadError(f"no memory for another execution context ({'; '.join(told)}): use fewer slots")
        self.stream, self._event, self._flight = cuda.stream(), Event(cuda), Flight()
        self._levels = cuda.exchange((batch, h, w, 3), np.uint8, shared_memory)
        self._plane_bytes = 3 * h * w * np.dtype(np.float32).itemsize
        self._input = cuda.memory(batch * self._plane_bytes)
        channels = output.heatmap_channels, output.paf_channels
        self._results = [cuda.exchange((batch, count, rows, columns), np.float32, shared_memory) for count in channels]
        self._maps = Maps(*(result.array for result in self._results))
        self._bind(contract, batch)
        self._own = [kernel_parameters(self._fitted_picture(index, (w, h)), contract.input)[0] for index in range(batch)]
        self._next: list[KernelParameters] | None = None
        self._graph: Graph | None = None
        self._graphs, self._started = graphs, False

    @property
    def pictures(self) -> NDArray[np.uint8]:
        return self._levels.array

    def fit(self, pictures: list[CameraPicture]) -> list[Placement]:
        """Pictures of any size in device memory, one for each place of the batch; says where they lie in the network's input."""
        if len(pictures) != len(self.pictures):
            raise ShapeMismatch(f"{len(pictures)} pictures for a batch of {len(self.pictures)}")
        told = [kernel_parameters(picture, self._contract) for picture in pictures]
        self._next = [parameters for parameters, _ in told]
        return [place for _, place in told]

    def start(self) -> None:
        self._flight.begin()
        fitted, self._next = self._next, None
        try:
            self._start(fitted)
        except BaseException:
            self._flight.end()
            raise

    def _start(self, fitted: list[KernelParameters] | None) -> None:
        self._cuda.activate()
        if fitted is None:
            self._levels.send(self.stream)
        for index, parameters in enumerate(fitted or self._own):
            self._preprocess.launch(self.stream, parameters, self._input.address + index * self._plane_bytes, np.float32)
        self._infer()
        self.stream.record(self._event)

    def wait(self) -> Maps:
        self._flight.end()
        self._cuda.activate()
        self._event.wait()
        return self._maps

    def drain(self) -> None:
        self._flight.drain(self.wait)

    def _infer(self) -> None:
        """The network and the copies of its maps: put into the stream one by one the first time, recorded the second."""
        if self._graph is not None:
            self._graph.launch(self.stream)
            return
        if self._graphs and self._started:
            self._graphs = False
            self._graph = self._recorded()
            if self._graph is not None:
                self._graph.launch(self.stream)
                return
        self._started = True
        self._enqueue()

    def _recorded(self) -> Graph | None:
        graph = self.stream.capture(self._enqueue)
        if graph is None:
            logger.warning("this plan cannot be recorded as a CUDA graph: each inference is enqueued piece by piece")
        return graph

    def enqueue_network(self) -> None:
        """The network alone, on whatever lies in the slot's input; for measurements."""
        if not self._context.execute_async_v3(self.stream.handle.value):
            raise InferenceFailed(f"TensorRT: {'; '.join(self._told) or 'the inference could not be enqueued'}")

    def _enqueue(self) -> None:
        self.enqueue_network()
        for result in self._results:
            result.fetch(self.stream)

    def _bind(self, contract: ModelContract, batch: int) -> None:
        name = contract.input.name
        size = (batch, 3, contract.input.height, contract.input.width)
        if not self._context.set_input_shape(name, size):
            told = f" ({'; '.join(self._told)})" if self._told else ""
            raise ShapeMismatch(f"the plan takes no batch of {batch}{told}: build it with --batches (TensorRT 8.5: with one slot)")
        addresses = {name: self._input.address}
        addresses |= dict(zip((contract.output.heatmaps, contract.output.pafs), (result.address for result in self._results), strict=True))
        for tensor, address in addresses.items():
            if not self._context.set_tensor_address(tensor, address):
                raise EngineLoadError(f"TensorRT does not take the buffer of {tensor!r}: {'; '.join(self._told)}")

    def _fitted_picture(self, index: int, size_wh: tuple[int, int]) -> CameraPicture:
        w, h = size_wh
        return CameraPicture(PixelFormat.BGR, size_wh, self._levels.address + index * 3 * w * h, 3 * w)


class TensorRtEngine:
    """A loaded plan."""

    def __init__(self, contract: ModelContract, execution: Execution, slots: tuple[TensorRtSlot, ...], kept: tuple[Any, ...]) -> None:
        self.contract, self.execution = contract, execution
        self._slots = slots
        self._kept = kept
        """What must outlive the slots, in the order in which it may go."""

    @property
    def slots(self) -> tuple[TensorRtSlot, ...]:
        return self._slots

    def close(self) -> None:
        for slot in self._slots:
            slot.drain()
        self._slots = ()
        self._kept = ()


def _check_tensors(loaded: Any, contract: ModelContract, tensorrt: TensorRt) -> None:
    """The plan's inputs and outputs are the contract's, in FP32."""
    names = [loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)]
    output = contract.output
    wanted = (contract.input.name, output.heatmaps, output.pafs)
    if missing := [name for name in wanted if name not in names]:
        raise ShapeMismatch(f"the plan has no tensor {missing[0]!r}: it has {', '.join(names)}; correct the contract and export again")
    for name in wanted:
        if loaded.get_tensor_dtype(name) != tensorrt.module.float32:
            raise ShapeMismatch(f"the plan's tensor {name!r} is {loaded.get_tensor_dtype(name)}: wanted FP32; export again")
    heatmaps, pafs = (tuple(loaded.get_tensor_shape(name))[1:] for name in wanted[1:])
    check_outputs(contract, heatmaps, pafs, "the plan")
