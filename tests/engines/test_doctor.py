"""The doctor on this machine, on a Jetson's files, and on a machine that has nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from edgepose.engines.doctor import Finding, findings
from edgepose.engines.errors import BundleStale
from edgepose.engines.registry import open_engine

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"


def found(bundles: list[Path], root: Path = Path("/")) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(bundles, root)}


def test_this_machine_and_its_bundles(tiny_bundles: dict[str, Path]) -> None:
    openvino, tensorrt = tiny_bundles["ov-fp32"], tiny_bundles["trt-fp32"]
    told = found([openvino, tensorrt])
    assert "Python 3." in told["machine"].text and "jetson" not in told
    assert told["openvino"].works and "CPU (" in told["openvino"].text
    assert told[openvino.name].text.startswith("ov-fp32, 24 x 32: runs on OpenVINO 20")
    assert told[tensorrt.name].works == (told["gpu"].works and told["tensorrt"].works)


def test_a_jetson_names_its_board_release_and_power_mode(tmp_path: Path) -> None:
    for name, text in {
        "etc/nv_tegra_release": RELEASE,
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=15W >",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
        "sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0",
        "sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n",
        "dev/video0": "",
        "proc/meminfo": "MemTotal:       15984344 kB\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    told = found([], tmp_path)
    board = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    assert told["jetson"].text == f"{board}, L4T 36.4.3 (JetPack 6.1 or 6.2), power mode 2 (15W)"
    assert told["cameras"].text == "/dev/video0 (vi-output, imx219 9-0010)"
    assert "15.2 GiB" in told["machine"].text


def test_on_a_machine_with_nothing_every_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundles: dict[str, Path]
) -> None:
    real_import = importlib.__import__

    def nothing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in ("openvino", "onnxruntime"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    openvino, tensorrt = tiny_bundles["ov-fp32"], tiny_bundles["trt-fp32"]
    nowhere = tmp_path / "nothing.pose"
    monkeypatch.setattr("builtins.__import__", nothing)
    monkeypatch.setattr("edgepose.engines.tensorrt_.bindings._MODULES", ("tensorrt_that_is_not_there",))
    monkeypatch.setattr("edgepose.engines.cuda_driver._LIBRARY", "libcuda-that-is-not-there.so")
    told = found([openvino, tensorrt, nowhere], tmp_path)
    assert [name for name, finding in told.items() if finding.works] == ["machine", "cuda kernel", "cameras"]
    assert "pip install 'edgepose[openvino]'" in told["openvino"].text
    assert "sudo apt install python3-libnvinfer" in told["tensorrt"].text
    assert "no NVIDIA driver" in told["gpu"].text
    assert told[openvino.name].text == told["openvino"].text
    assert told[tensorrt.name].text == told["gpu"].text
    assert "not a bundle" in told[nowhere.name].text


@pytest.mark.needs("tensorrt_rtx_bindings")
def test_a_bundle_without_a_plan_would_be_built_first(emulated_cuda: Any, tiny_bundles: dict[str, Path]) -> None:
    assert emulated_cuda.library
    path = tiny_bundles["trt-fp32"]
    assert found([path])[path.name].text.endswith(f"would be built first (no plan yet): run pose-build {path}")
    with pytest.raises(BundleStale, match=rf"no plan for this machine \(none built yet\): run pose-build {path}"):
        open_engine(path, build=False)
    assert not list(path.glob("plans/*.plan"))
