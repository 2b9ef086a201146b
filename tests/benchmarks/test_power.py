"""Energy and clocks from trees like the kernel's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgepose.benchmarks.power import EnergyMeter, power_state


def write(root: Path, files: dict[str, object]) -> None:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


def test_rapl_counts_microjoules_and_starts_anew_at_its_range(tmp_path: Path) -> None:
    package = "sys/class/powercap/intel-rapl:0"
    write(tmp_path, {f"{package}/name": "package-0", f"{package}/energy_uj": 9_000_000, f"{package}/max_energy_range_uj": 10_000_000})
    write(tmp_path, {"sys/class/powercap/intel-rapl:0:0/energy_uj": 5})
    write(tmp_path, {"sys/class/powercap/intel-rapl:1/name": "psys", "sys/class/powercap/intel-rapl:1/energy_uj": 7})
    meter = EnergyMeter(tmp_path)
    assert meter.source == "RAPL package-0"
    with meter:
        write(tmp_path, {f"{package}/energy_uj": 9_500_000})
    assert meter.joules == pytest.approx(0.5)
    with meter:
        write(tmp_path, {f"{package}/energy_uj": 1_500_000})
    assert meter.joules == pytest.approx(2.0)


def test_a_jetsons_monitor_tells_volts_and_amperes_of_its_input(tmp_path: Path) -> None:
    monitor = "sys/class/hwmon/hwmon3"
    write(tmp_path, {f"{monitor}/name": "ina3221", "sys/class/hwmon/hwmon0/name": "nvme"})
    for number, name, millivolts, milliamperes in ((1, "VDD_IN", 5000, 2000), (2, "VDD_CPU_GPU_CV", 5000, 900)):
        write(tmp_path, {f"{monitor}/in{number}_label": name, f"{monitor}/in{number}_input": millivolts})
        write(tmp_path, {f"{monitor}/curr{number}_input": milliamperes})
    meter = EnergyMeter(tmp_path)
    assert meter.source == "INA3221 VDD_IN"
    began = time.perf_counter()
    with meter:
        time.sleep(0.25)
    assert meter.joules == pytest.approx(10 * (time.perf_counter() - began), rel=0.1)


def test_where_nothing_tells_it_says_so(tmp_path: Path) -> None:
    with EnergyMeter(tmp_path) as meter:
        pass
    assert meter.joules is None and meter.source is None
    assert power_state(tmp_path) == power_state(tmp_path / "nowhere")
    assert power_state(tmp_path).mode is None


def test_clocks_governor_and_the_hottest_zone(tmp_path: Path) -> None:
    for core, khz in enumerate((1_000_000, 2_000_000)):
        write(tmp_path, {f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": khz})
    write(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil"})
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": 41500, "sys/class/thermal/thermal_zone1/temp": 63250})
    state = power_state(tmp_path)
    assert (state.mode, state.clock_mhz, state.temperature_c) == ("schedutil", 1500, 63.25)
    write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002"})
    assert power_state(tmp_path).mode == "pmode:0002"
