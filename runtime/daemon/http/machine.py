"""How hot, how fast and how hungry the machine is, as sysfs tells it: see Documentation/thermal and hwmon of the Linux kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepose.engines.sysfs import number_in, text_in


@dataclass(frozen=True, slots=True)
class MachineState:
    """By name: degrees Celsius of thermal zones, hertz of CPU cores, watts of what measures its power. What cannot be read is left out."""

    temperatures_c: dict[str, float]
    clocks_hz: dict[str, float]
    powers_w: dict[str, float]


def machine_state(root: Path = Path("/")) -> MachineState:
    zones = _numbers(root / "sys/class/thermal", "thermal_zone*/temp", 1e-3, "type")
    clocks = _numbers(root / "sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq", 1e3)
    return MachineState(dict(zones), dict(clocks), dict(_powers(root)))


def _powers(root: Path) -> Iterator[tuple[str, float]]:
    """hwmon's own watts; of an INA3221, as Jetsons have it, volts times amperes of each of its channels."""
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        yield from _numbers(monitor, "power*_input", 1e-6, None, f"{text_in(monitor / 'name') or monitor.name} ")
        for label in sorted(monitor.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = (number_in(monitor / f"{kind}{number}_input") for kind in ("in", "curr"))
            if volts is not None and amperes is not None:
                yield text_in(label) or label.name, volts * amperes / 1e6


def _numbers(folder: Path, pattern: str, scale: float, name: str | None = None, before: str = "") -> Iterator[tuple[str, float]]:
    """Named by the file `name` beside it together with its folder, or by the folder."""
    for file in sorted(folder.glob(pattern)):
        number = number_in(file)
        if number is not None:
            place = next(part for part in file.relative_to(folder).parts)
            said = text_in(file.parent / name) if name else None
            yield before + (f"{place} {said}" if said else place), number * scale
