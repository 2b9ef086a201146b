from __future__ import annotations

from pathlib import Path

import pytest

from edgepose.runtime.daemon.http.machine import machine_state


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_a_jetson_tells_its_temperatures_clocks_and_power(tmp_path: Path) -> None:
    files = {"sys/class/thermal/thermal_zone0/temp": "48500", "sys/class/thermal/thermal_zone0/type": "cpu-thermal"}
    files |= {"sys/class/thermal/thermal_zone1/temp": "51250", "sys/class/thermal/thermal_zone1/type": "gpu-thermal"}
    files |= {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400"}
    monitor = "sys/class/hwmon/hwmon2"
    files |= {
        f"{monitor}/name": "ina3221",
        f"{monitor}/in1_label": "VDD_IN",
        f"{monitor}/in1_input": "5000",
        f"{monitor}/curr1_input": "1600",
    }
    files |= {"sys/class/hwmon/hwmon3/name": "power_meter", "sys/class/hwmon/hwmon3/power1_input": "12500000"}
    write(tmp_path, files)
    state = machine_state(tmp_path)
    assert state.temperatures_c == pytest.approx({"thermal_zone0 cpu-thermal": 48.5, "thermal_zone1 gpu-thermal": 51.25})
    assert state.clocks_hz == {"cpu0": 1_510_400_000}
    assert state.powers_w == {"VDD_IN": 8.0, "power_meter power1_input": 12.5}


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "", "sys/class/thermal/thermal_zone1/temp": "broken"})
    state = machine_state(tmp_path)
    assert not state.temperatures_c and not state.clocks_hz and not state.powers_w


def test_this_machine_can_be_asked() -> None:
    assert all(-50 < value < 150 for value in machine_state().temperatures_c.values())
