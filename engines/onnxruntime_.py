"""ONNX Runtime on the CPU: the plain reference that every other backend is compared with.

The model stays as exported (float NCHW in); each slot normalises its pictures in its worker thread before it runs.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Execution, Flight, Maps, check_outputs
from edgepose.engines.errors import BackendUnavailable, EngineLoadError, InferenceFailed, ShapeMismatch

if TYPE_CHECKING:
    import onnxruntime as ort


def engine_from_onnx(
    path: Path, contract: ModelContract, device: str, slots: int, batch: int, simulates_tensorrt: bool = False
) -> OnnxRuntimeEngine:
    """Loads an ONNX file; `simulates_tensorrt` says in `execution` that it was made for another backend.

    Raises BackendUnavailable, EngineLoadError or ShapeMismatch.
    """
    ort = import_onnxruntime()
    if device.upper() not in ("AUTO", "CPU"):
        raise BackendUnavailable(f"device {device!r}: edgepose runs ONNX Runtime on CPU only; export an ov-* target for other devices")
    session = session_from_onnx(path)
    _check_shapes(session, contract, batch, path)
    why = "asked for" if device.upper() == "CPU" else "ONNX Runtime is the CPU reference"
    backend = f"ONNX Runtime {ort.__version__}" + (" simulating TensorRT" if simulates_tensorrt else "")
    return OnnxRuntimeEngine(session, contract, Execution(backend, "CPU", why), slots, batch)


def import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable("ONNX Runtime is not installed: pip install 'edgepose[onnxruntime]'") from error
    return onnxruntime


def session_from_onnx(model: Path | bytes) -> ort.InferenceSession:
    """An ONNX Runtime CPU session; Q/DQ pairs are computed as the standard defines them. Raises EngineLoadError in one line."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # else it quantises biases that the file has in floating point
    try:
        return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class below Exception
        where = "model" if isinstance(model, bytes) else model
        raise EngineLoadError(f"{where}: ONNX Runtime cannot load it ({str(error).splitlines()[0]}): export it again") from error


class OnnxRuntimeSlot:
    """Pictures, their normalised copy, and the maps of the last run."""

    def __init__(self, session: ort.InferenceSession, contract: ModelContract, batch: int, worker: ThreadPoolExecutor) -> None:
        size = (contract.input.height, contract.input.width)
        self._session = session
        self._contract = contract
        self._worker = worker
        self._pictures = np.zeros((batch, *size, 3), np.uint8)
        self.tensor = np.empty((batch, 3, *size), np.float32)
        """What the network sees: (N, 3, height, width), normalised, after `start` and until the next."""
        self._flight = Flight()
        self._result: Future[Maps] = Future()

    @property
    def pictures(self) -> NDArray[np.uint8]:
        return self._pictures

    def start(self) -> None:
        self._flight.begin()
        self._result = self._worker.submit(self._run)

    def wait(self) -> Maps:
        self._flight.end()
        return self._result.result()

    def _run(self) -> Maps:
        self._normalise()
        output = self._contract.output
        try:
            heatmaps, pafs = self._session.run([output.heatmaps, output.pafs], {self._session.get_inputs()[0].name: self.tensor})
        except Exception as error:  # see session_from_onnx
            raise InferenceFailed(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
        return Maps(heatmaps, pafs)

    def _normalise(self) -> None:
        """(x - mean) / std into the float tensor, channel by channel in the network's order."""
        contract = self._contract.input
        levels = self._pictures if contract.channels == "BGR" else self._pictures[..., ::-1]
        for channel, (mean, std) in enumerate(zip(contract.mean, contract.std, strict=True)):
            plane = self.tensor[:, channel]
            np.subtract(levels[..., channel], mean, out=plane, dtype=np.float32)
            np.divide(plane, np.float32(std), out=plane)


class OnnxRuntimeEngine:
    """A session and its ring of slots, each run in a worker thread."""

    def __init__(self, session: ort.InferenceSession, contract: ModelContract, execution: Execution, slots: int, batch: int) -> None:
        self.contract = contract
        self.execution = execution
        self._worker = ThreadPoolExecutor(slots, thread_name_prefix="edgepose-onnxruntime")
        self._slots = tuple(OnnxRuntimeSlot(session, contract, batch, self._worker) for _ in range(slots))

    @property
    def slots(self) -> tuple[OnnxRuntimeSlot, ...]:
        return self._slots

    def close(self) -> None:
        self._worker.shutdown()
        self._slots = ()


def _check_shapes(session: ort.InferenceSession, contract: ModelContract, batch: int, path: Path) -> None:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ShapeMismatch(f"{path}: {len(inputs)} inputs: wanted one picture tensor")
    wanted = (batch, 3, contract.input.height, contract.input.width)
    if len(inputs[0].shape) != 4 or any(isinstance(f, int) and f != w for f, w in zip(inputs[0].shape, wanted, strict=True)):
        raise ShapeMismatch(f"{path}: the model's input is {inputs[0].shape}, the contract wants {list(wanted)}: correct the contract")
    shapes = {output.name: output.shape for output in session.get_outputs()}
    missing = [n for n in (contract.output.heatmaps, contract.output.pafs) if n not in shapes]
    if missing:
        raise ShapeMismatch(f"{path}: no output {missing[0]!r}: the model has {', '.join(shapes)}; correct the contract")
    heatmaps, pafs = (tuple(shapes[n][1:]) for n in (contract.output.heatmaps, contract.output.pafs))
    if all(isinstance(size, int) for size in (*heatmaps, *pafs)):
        check_outputs(contract, heatmaps, pafs, str(path))
