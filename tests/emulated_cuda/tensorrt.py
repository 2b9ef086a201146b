"""TensorRT's runtime as far as edgepose calls it: a plan is an ONNX file, computed by ONNX Runtime when the stream gets there."""

from __future__ import annotations

import ctypes
from enum import Enum
from typing import Any

import numpy as np
import onnxruntime as ort

__version__ = "99.0"
float32 = "FLOAT"
_Callback = ctypes.CFUNCTYPE(None)


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4


class Runtime:
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        try:
            return Engine(ort.InferenceSession(plan, providers=["CPUExecutionProvider"]))
        except Exception as error:  # as TensorRT does: the reason goes to the log
            self._logger.log(ILogger.Severity.ERROR, str(error).splitlines()[0])
            return None


class Engine:
    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.tensors = {tensor.name: tensor for tensor in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> str:
        return "FLOAT" if self.tensors[name].type == "tensor(float)" else "OTHER"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(side if isinstance(side, int) else -1 for side in self.tensors[name].shape)

    def create_execution_context(self) -> Context:
        return Context(self.session)


class Context:
    library: ctypes.CDLL
    """The emulated driver, set by whoever loads this module."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._run = _Callback(self._compute)
        self.enqueued = 0

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        known = self._session.get_inputs()[0].shape
        self._shape = tuple(shape)
        return all(not isinstance(side, int) or side == asked for side, asked in zip(known, shape, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.enqueued += 1
        return int(self.library.emulated_enqueue(ctypes.c_void_p(stream), self._run)) == 0

    def _compute(self) -> None:
        entry = self._session.get_inputs()[0].name
        names = [output.name for output in self._session.get_outputs()]
        seen = _array(self._addresses[entry], self._shape).copy()
        for name, found in zip(names, self._session.run(names, {entry: seen}), strict=True):
            _array(self._addresses[name], found.shape)[...] = found


def _array(address: int, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    count = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32).reshape(shape)
