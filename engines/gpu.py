"""`Gpu`: the NVIDIA GPU of this machine, asked of the driver itself."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edgepose.engines.cuda_driver import CudaDriver

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
"""CUdevice_attribute: compute capability, and whether the GPU shares the host's memory, as on a Jetson."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU. `compute_capability` as `8.7`; `driver_cuda` is the newest CUDA that the driver serves, as `13.0`."""

    name: str
    compute_capability: str
    memory_mib: int
    integrated: bool
    driver_cuda: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability}, {self.memory_mib} MiB)"


def find_gpu() -> Gpu:
    """Raises BackendUnavailable, with the driver's reason."""
    driver = CudaDriver()
    number, device, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    driver("cuDriverGetVersion", ctypes.byref(number))
    driver("cuDeviceGet", ctypes.byref(device), 0)
    driver("cuDeviceGetName", name, len(name), device)
    driver("cuDeviceTotalMem_v2", ctypes.byref(size), device)
    major, minor, integrated = (_attribute(driver, which, device) for which in (_MAJOR, _MINOR, _INTEGRATED))
    newest = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major}.{minor}", size.value >> 20, bool(integrated), newest)


def _attribute(driver: CudaDriver, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    driver("cuDeviceGetAttribute", ctypes.byref(value), which, device)
    return value.value
