"""`Gpu`: the NVIDIA GPU of this machine, asked of the driver itself (`libcuda`), so that no CUDA package is needed to know."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edgepose.engines.errors import BackendUnavailable

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
"""CUdevice_attribute: compute capability, and whether the GPU shares the host's memory, as on a Jetson."""
_REASONS = {
    100: "the driver sees no GPU: check nvidia-smi, or the container's --gpus all (on a Jetson --runtime nvidia)",
    802: "the system is not ready (fabric manager): restart it",
    803: "the driver is older than the CUDA library in front of it: update the driver, or remove the compat library",
    804: "this GPU cannot run in forward compatibility mode: update the driver",
    999: "the driver does not answer: reload it or restart the machine",
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU. `compute_capability` as `8.7`; `driver_cuda` is the newest CUDA that the driver serves, as `13.0`."""

    name: str
    compute_capability: str
    memory_mib: int
    integrated: bool
    driver_cuda: str


def find_gpu() -> Gpu:
    """Raises BackendUnavailable, with the driver's reason."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendUnavailable(f"no NVIDIA driver ({_LIBRARY} is not there): install it, or choose another device") from error
    return _asked(cuda)


def _asked(cuda: ctypes.CDLL) -> Gpu:
    number, device, bytes_ = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDriverGetVersion", ctypes.byref(number))
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _call(cuda, "cuDeviceGetName", name, len(name), device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(bytes_), device)
    major, minor, integrated = (_attribute(cuda, which, device) for which in (_MAJOR, _MINOR, _INTEGRATED))
    driver = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major}.{minor}", bytes_.value >> 20, bool(integrated), driver)


def _attribute(cuda: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), which, device)
    return value.value


def _call(cuda: ctypes.CDLL, function: str, *arguments: object) -> None:
    if status := getattr(cuda, function)(*arguments):
        raise BackendUnavailable(f"CUDA: {_REASONS.get(status, f'{function} failed with error {status}')}")
