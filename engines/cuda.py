"""The small CUDA face that the TensorRT engine needs: memory, streams, events, kernels and graphs of the first GPU.

Everything lives in the GPU's primary context, which TensorRT, PyCUDA and cuda-python share; `activate` makes it current in the calling
thread. Calls return at once unless they say that they wait; a failure raises InferenceFailed.
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgepose.engines.cuda_driver import NOT_READY, CudaDriver
from edgepose.engines.errors import InferenceFailed

logger = logging.getLogger(__name__)

_NON_BLOCKING_STREAM = 1
_BLOCKING_NO_TIMING_EVENT = 1 | 2
_THREAD_LOCAL_CAPTURE = 1
_MAPPED = 2


class Cuda:
    """The primary context of GPU 0, retained as long as this object or anything made from it lives."""

    def __init__(self) -> None:
        self.driver = CudaDriver()
        self._device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self.driver("cuDeviceGet", ctypes.byref(self._device), 0)
        self.driver("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        weakref.finalize(self, self.driver.status, "cuDevicePrimaryCtxRelease_v2", self._device)
        self.activate()

    def activate(self) -> None:
        """Before other calls in a thread that has made none yet."""
        self.driver("cuCtxSetCurrent", self._context)

    def free(self, function: str, handle: object) -> None:
        """Gives back what was made here; called when its owner dies, which holds this object until then."""
        self.driver.status("cuCtxSetCurrent", self._context)
        if status := self.driver.status(function, handle):
            logger.warning("%s failed with error %d", function, status)

    def memory(self, size: int) -> DeviceMemory:
        """`size` bytes on the device."""
        return DeviceMemory(self, size)

    def exchange(self, shape: Sequence[int], dtype: DTypeLike, shared: bool) -> Exchange:
        """Host and device side of one array, zeroed; `shared` where the GPU has no memory of its own."""
        return Exchange(self, shape, np.dtype(dtype), shared)

    def stream(self) -> Stream:
        return Stream(self)

    def module(self, image: bytes) -> Module:
        """Compiled kernels: a cubin, a fatbin or PTX."""
        return Module(self, image)


class DeviceMemory:
    """Bytes on the device at `address`."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        place = ctypes.c_uint64()
        cuda.driver("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(size))
        self.address, self.size = place.value, size
        weakref.finalize(self, cuda.free, "cuMemFree_v2", place)


class Exchange:
    """One array for host and device: pinned on the host as `array`, and at `address` on the device.

    On a GPU of its own memory the two are copies, which `send` and `fetch` bring over; on one that shares the host's (a Jetson) they are
    the same bytes, and nothing is copied. The memory is given back with the last view of `array`.
    """

    def __init__(self, cuda: Cuda, shape: Sequence[int], dtype: np.dtype[Any], shared: bool) -> None:
        self.array = _pinned(cuda, shape, dtype)
        self._memory = None if shared else cuda.memory(self.array.nbytes)
        self.address = self._memory.address if self._memory else _device_address(cuda, self.array)

    def send(self, stream: Stream) -> None:
        if self._memory:
            stream.to_device(self.address, self.array)

    def fetch(self, stream: Stream) -> None:
        if self._memory:
            stream.to_host(self.array, self.address)


class Event:
    """A point in a stream's work."""

    def __init__(self, cuda: Cuda) -> None:
        self._driver, self.handle = cuda.driver, ctypes.c_void_p()
        cuda.driver("cuEventCreate", ctypes.byref(self.handle), _BLOCKING_NO_TIMING_EVENT)
        weakref.finalize(self, cuda.free, "cuEventDestroy_v2", self.handle)

    def done(self) -> bool:
        status = self._driver.status("cuEventQuery", self.handle)
        if status not in (0, NOT_READY):
            self._driver("cuEventQuery", self.handle)
        return status == 0

    def wait(self) -> None:
        """Sleeps until the work before it is done."""
        self._driver("cuEventSynchronize", self.handle)


class Graph:
    """Recorded work of a stream, launched as one."""

    def __init__(self, cuda: Cuda, captured: ctypes.c_void_p) -> None:
        self._driver, self._handle = cuda.driver, ctypes.c_void_p()
        try:
            cuda.driver("cuGraphInstantiateWithFlags", ctypes.byref(self._handle), captured, ctypes.c_uint64(0))
        finally:
            cuda.driver.status("cuGraphDestroy", captured)
        weakref.finalize(self, cuda.free, "cuGraphExecDestroy", self._handle)

    def launch(self, stream: Stream) -> None:
        self._driver("cuGraphLaunch", self._handle, stream.handle)


class Module:
    """Loaded kernels, by name."""

    def __init__(self, cuda: Cuda, image: bytes) -> None:
        self._driver, self._handle = cuda.driver, ctypes.c_void_p()
        cuda.driver("cuModuleLoadData", ctypes.byref(self._handle), ctypes.c_char_p(image))
        weakref.finalize(self, cuda.free, "cuModuleUnload", self._handle)

    def kernel(self, name: str) -> ctypes.c_void_p:
        found = ctypes.c_void_p()
        self._driver("cuModuleGetFunction", ctypes.byref(found), self._handle, name.encode())
        return found


class Stream:
    """Work in order. Arrays and memory that are handed over stay alive and unchanged until the work is done."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._driver, self.handle = cuda, cuda.driver, ctypes.c_void_p()
        cuda.driver("cuStreamCreate", ctypes.byref(self.handle), _NON_BLOCKING_STREAM)
        weakref.finalize(self, cuda.free, "cuStreamDestroy_v2", self.handle)

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        size, place = ctypes.c_size_t(array.nbytes), ctypes.c_void_p(array.ctypes.data)
        self._driver("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), place, size, self.handle)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        size, place = ctypes.c_size_t(array.nbytes), ctypes.c_void_p(array.ctypes.data)
        self._driver("cuMemcpyDtoHAsync_v2", place, ctypes.c_uint64(address), size, self.handle)

    def on_device(self, to: int, source: int, size: int) -> None:
        """Copies `size` bytes between device addresses."""
        self._driver("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(to), ctypes.c_uint64(source), ctypes.c_size_t(size), self.handle)

    def launch(self, kernel: ctypes.c_void_p, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any]) -> None:
        """`arguments` are ctypes values; they are copied at once."""
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))
        self._driver("cuLaunchKernel", kernel, *grid, 1, *block, 1, 0, self.handle, pointers, None)

    def record(self, event: Event) -> None:
        self._driver("cuEventRecord", event.handle, self.handle)

    def capture(self, work: Callable[[], None]) -> Graph | None:
        """What `work` puts into this stream, as a graph; None where it does what cannot be captured."""
        captured = ctypes.c_void_p()
        self._driver("cuStreamBeginCapture_v2", self.handle, _THREAD_LOCAL_CAPTURE)
        try:
            work()
            failed = False
        except InferenceFailed:
            failed = True
        status = self._driver.status("cuStreamEndCapture", self.handle, ctypes.byref(captured))
        if failed or status or not captured.value:
            return None
        try:
            return Graph(self._cuda, captured)
        except InferenceFailed:
            return None

    def wait(self) -> None:
        """Sleeps until everything is done."""
        self._driver("cuStreamSynchronize", self.handle)


def _pinned(cuda: Cuda, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    size = max(1, int(np.prod(shape)) * dtype.itemsize)
    place = ctypes.c_void_p()
    cuda.driver("cuMemHostAlloc", ctypes.byref(place), ctypes.c_size_t(size), _MAPPED)
    assert place.value is not None
    buffer = (ctypes.c_uint8 * size).from_address(place.value)
    array: NDArray[Any] = np.frombuffer(memoryview(buffer), dtype, int(np.prod(shape))).reshape(shape)
    weakref.finalize(buffer, cuda.free, "cuMemFreeHost", place)
    array[...] = 0
    return array


def _device_address(cuda: Cuda, pinned: NDArray[Any]) -> int:
    address = ctypes.c_uint64()
    cuda.driver("cuMemHostGetDevicePointer_v2", ctypes.byref(address), ctypes.c_void_p(pinned.ctypes.data), 0)
    return address.value
