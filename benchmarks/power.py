"""Energy, temperature and clocks where the system tells them: Intel's RAPL, the INA3221 monitors of a Jetson, thermal zones, cpufreq.

Read from sysfs directly: see Documentation/power/powercap, hwmon/ina3221 and thermal of the Linux kernel. On many systems only root
may read energy; what cannot be read is None.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType

from edgepose.engines.sysfs import number_in, text_in

_SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class PowerState:
    """How fast the machine is allowed to be, now. `mode` is a Jetson's nvpmodel or the CPU's governor."""

    mode: str | None
    clock_mhz: float | None
    temperature_c: float | None


def power_state(root: Path = Path("/")) -> PowerState:
    """The mean clock of all cores and the hottest zone."""
    clocks = [number_in(file) for file in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    zones = [number_in(file) for file in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    known, hot = [c for c in clocks if c is not None], [z for z in zones if z is not None]
    mode = text_in(root / "var/lib/nvpmodel/status") or text_in(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return PowerState(mode, sum(known) / len(known) / 1e3 if known else None, max(hot) / 1e3 if hot else None)


class EnergyMeter:
    """Joules between entering and leaving; None where nothing tells. Monitors that tell watts are asked ten times a second."""

    def __init__(self, root: Path = Path("/")) -> None:
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:?"))  # psys, beside them, counts the packages again
        self._packages = [z for z in zones if (text_in(z / "name") or "").startswith("package") and number_in(z / "energy_uj") is not None]
        self._rails = _rails(root)
        self.joules: float | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def source(self) -> str | None:
        if self._packages:
            return "RAPL " + ", ".join(text_in(p / "name") or p.name for p in self._packages)
        return "INA3221 " + ", ".join(rail.name for rail in self._rails) if self._rails else None

    def __enter__(self) -> EnergyMeter:
        self._before = [number_in(p / "energy_uj") for p in self._packages]
        if self._rails and not self._packages:
            self._done.clear()
            self._thread = threading.Thread(target=self._integrate, name="edgepose energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._packages:
            self.joules = sum(_used(p, before) for p, before in zip(self._packages, self._before, strict=True)) / 1e6
        elif self._thread:
            self._done.set()
            self._thread.join()

    def _integrate(self) -> None:
        joules, last, watts = 0.0, perf_counter(), sum(rail.watts for rail in self._rails)
        while not self._done.wait(_SAMPLE_S):
            now, newest = perf_counter(), sum(rail.watts for rail in self._rails)
            joules += (now - last) * (watts + newest) / 2
            last, watts = now, newest
        self.joules = joules + (perf_counter() - last) * watts


@dataclass(frozen=True, slots=True)
class _Rail:
    """One channel of an INA3221, in millivolts and milliamperes."""

    name: str
    volts: Path
    amperes: Path

    @property
    def watts(self) -> float:
        return (number_in(self.volts) or 0) * (number_in(self.amperes) or 0) / 1e6


def _rails(root: Path) -> list[_Rail]:
    """The input rail where a monitor has one, which holds all others (VDD_IN: Orin Nano and NX, Xavier NX); else all of them."""
    rails = []
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if text_in(monitor / "name") == "ina3221":
            for label in sorted(monitor.glob("in*_label")):
                number, name = label.name.removeprefix("in").removesuffix("_label"), text_in(label) or ""
                if (monitor / f"curr{number}_input").is_file():
                    rails.append(_Rail(name, monitor / f"in{number}_input", monitor / f"curr{number}_input"))
    whole = [rail for rail in rails if rail.name == "VDD_IN"]
    return whole[:1] or rails


def _used(package: Path, before: float | None) -> float:
    """Microjoules; the counter starts anew at its range."""
    now, start = number_in(package / "energy_uj") or 0, before or 0
    return now - start if now >= start else now - start + (number_in(package / "max_energy_range_uj") or 0)
