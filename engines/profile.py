"""`DeviceProfile`: what was found to be best for a bundle on one machine, kept beside the bundle's files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from pathlib import Path

from pydantic import Field

from edgepose.engines.bundle import Bundle
from edgepose.engines.errors import ConfigError, SinkError
from edgepose.engines.record import Record, read_json

logger = logging.getLogger(__name__)
DEFAULT_SLOTS = 4


class DeviceProfile(Record):
    """`slots` in flight gave `frames_per_second` on `machine` and `device`, by `pose-bench sweep`."""

    machine: str
    device: str
    slots: int = Field(ge=1)
    frames_per_second: float = Field(gt=0)
    backend: str


def best_slots(bundle: Bundle, device: str = "auto") -> int:
    """As measured on this machine for this device, else 4. A profile that cannot be read is logged and passed over."""
    place = profile_path(bundle, device)
    if not place.is_file():
        return DEFAULT_SLOTS
    try:
        return DeviceProfile.parse(read_json(place), str(place)).slots
    except ConfigError as error:
        logger.warning("%s: run pose-bench sweep again", error)
        return DEFAULT_SLOTS


def write_profile(bundle: Bundle, device: str, slots: int, frames_per_second: float, backend: str) -> Path:
    """Raises SinkError where the bundle's folder cannot be written."""
    found = DeviceProfile(machine=machine_name(), device=device, slots=slots, frames_per_second=frames_per_second, backend=backend)
    place = profile_path(bundle, device)
    part = place.with_suffix(f".{os.getpid()}.part")
    try:
        place.parent.mkdir(exist_ok=True)
        part.write_text(json.dumps(found.model_dump(), indent=1) + "\n", encoding="utf-8")
        part.replace(place)
    except OSError as error:
        raise SinkError(f"{place}: cannot be written ({error.strerror}): copy the bundle to where you may write") from error
    return place


def profile_path(bundle: Bundle, device: str) -> Path:
    digest = hashlib.sha256(f"{machine_name()}\n{device.upper()}".encode()).hexdigest()
    return bundle.path / "profiles" / f"{digest[:16]}.json"


def machine_name() -> str:
    """Board or processor, and the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor_name()}, {cores} cores"


def processor_name() -> str:
    """ARM boards' own name, because their processors' are all alike; else what Linux calls the processor."""
    for place, key in ((Path("/sys/firmware/devicetree/base/model"), ""), (Path("/proc/cpuinfo"), "model name")):
        try:
            lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(key):
                return line.rpartition(":")[2].strip(" \0\t")
    return platform.processor() or "unknown"
