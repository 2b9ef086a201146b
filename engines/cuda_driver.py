"""`CudaDriver`: NVIDIA's driver library by ctypes. It is on every machine that has the GPU, and its ABI does not change, so that neither
PyCUDA nor cuda-python has to be installed or compiled; both see the same primary context."""

from __future__ import annotations

import ctypes

from edgepose.engines.errors import BackendUnavailable, InferenceFailed

_LIBRARY = "libcuda.so.1"
_REASONS = {
    2: "out of memory: use fewer slots or a smaller batch",
    100: "the driver sees no GPU: check nvidia-smi, or the container's --gpus all (on a Jetson --runtime nvidia)",
    218: "the kernel was compiled for another GPU",
    222: "the driver is older than the compiler of the kernel: update the driver",
    802: "the system is not ready (fabric manager): restart it",
    803: "the driver is older than the CUDA library in front of it: update the driver, or remove the compat library",
    804: "this GPU cannot run in forward compatibility mode: update the driver",
    999: "the driver does not answer: reload it or restart the machine",
}
NOT_READY = 600


class CudaDriver:
    """An initialised driver. Raises BackendUnavailable where there is none or it has no GPU."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise BackendUnavailable(f"no NVIDIA driver ({_LIBRARY} is not there): install it, or choose another device") from error
        if status := self.status("cuInit", 0):
            raise BackendUnavailable(self._reason("cuInit", status))

    def status(self, function: str, *arguments: object) -> int:
        """Calls a function and gives its CUresult. Pointers, sizes and handles must come as ctypes values: a plain int is 32 bits."""
        return int(getattr(self._library, function)(*arguments))

    def __call__(self, function: str, *arguments: object) -> None:
        """Raises InferenceFailed where the call does not succeed."""
        if status := self.status(function, *arguments):
            raise InferenceFailed(self._reason(function, status))

    @staticmethod
    def _reason(function: str, status: int) -> str:
        return f"CUDA: {_REASONS.get(status, 'error ' + str(status))} ({function})"
