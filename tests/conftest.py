"""What every test may ask for: the assets beside the project, requirements of the machine, and a small network with a known answer."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import painted_people
import pytest
from numpy.typing import NDArray

from edgepose.engines import Fit, InputContract, Maps, ModelContract, OutputContract, Skeleton
from edgepose.engines.bundle import record_of
from edgepose.engines.cuda_kernel import find_nvcc, prebuilt_kernel
from edgepose.engines.errors import BackendUnavailable
from edgepose.engines.gpu import find_gpu
from edgepose.engines.preprocess_reference import normalised
from edgepose.engines.skeleton import Limb
from edgepose.engines.target import target_named
from edgepose.engines.tensorrt_.bindings import TensorRt, import_tensorrt
from edgepose.engines.tensorrt_.build import run_builder
from edgepose.engines.tensorrt_.engine import TensorRtEngine, engine_from_plan
from edgepose.engines.tensorrt_.plan import BuildSettings, Plan, PlanKey, PlanRecord
from edgepose.export.cli import picture_sample
from edgepose.export.exporter import Export, export_bundles
from edgepose.export.network import Network, network_from_architecture, network_from_onnx

DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real weights, photographs and video; see EDGEPOSE_ASSETS in the README."""
    folder = Path(os.environ.get("EDGEPOSE_ASSETS", ROOT.parent / "shared" / "assets"))
    if (folder / "weights").is_dir():
        return folder
    reason = f"no assets in {folder}: set EDGEPOSE_ASSETS"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for what in mark.args:
            if not _present(what):
                required = os.environ.get("EDGEPOSE_REQUIRE", "").split(",")  # "cuda" requires "cuda-engine" too
                verdict = pytest.fail if {what, what.partition("-")[0]} & {*required} else pytest.skip
                verdict(f"this machine has no {what}")


def _present(what: str) -> bool:
    probes = {
        "bf16": _has_bf16,
        "cuda": _has_cuda,
        "cuda-engine": _has_cuda_engine,
        "rtsp-server": _has_rtsp_server,
        "gstreamer": _has_gstreamer,
        "tmpfs": _mounts_tmpfs,
    }
    if what in probes:
        return probes[what]()
    return importlib.util.find_spec(what) is not None or program(what) is not None


def program(name: str) -> str | None:
    """Where a program is; servers are not always on a user's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _has_cuda() -> bool:
    try:
        return bool(find_gpu())
    except BackendUnavailable:
        return False


def _has_cuda_engine() -> bool:
    """A GPU, TensorRT, and a preprocessing kernel or the compiler that makes one."""
    try:
        return bool(find_gpu() and import_tensorrt() and (prebuilt_kernel() or find_nvcc()))
    except BackendUnavailable:
        return False


@cache
def _has_rtsp_server() -> bool:
    """GStreamer's, as Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and -ugly bring it to the system's Python."""
    asked = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "raise SystemExit(not all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay', 'breakmydata'))))"
    )
    python = Path("/usr/bin/python3")
    return python.is_file() and subprocess.run([str(python), "-c", asked], capture_output=True, check=False).returncode == 0


@cache
def _has_gstreamer() -> bool:
    """Debian's bindings, where this Python can load them."""
    asked = f"import sys; sys.path.append({DEBIAN_PACKAGES!r}); import gi; gi.require_version('GstVideo', '1.0')"
    return subprocess.run([sys.executable, "-c", asked], capture_output=True, check=False).returncode == 0


@cache
def _mounts_tmpfs() -> bool:
    """A disk that can be filled; wants root."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = (
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False).returncode == 0
        )
        if mounted:
            subprocess.run(["umount", folder], check=True)
        return mounted


@dataclass(frozen=True)
class TinyModel:
    """A network small enough to be computed by hand: 4 x 4 means of the normalised input, then one matrix per output."""

    contract: ModelContract
    heatmap_weights: NDArray[np.float32]
    paf_weights: NDArray[np.float32]

    def maps(self, pictures: NDArray[np.uint8]) -> Maps:
        seen = normalised(pictures, self.contract.input)
        n, c, h, w = seen.shape
        means = seen.reshape(n, c, h // 4, 4, w // 4, 4).mean((3, 5))
        heatmaps, pafs = (np.einsum("oc,nchw->nohw", m, means).astype(np.float32) for m in (self.heatmap_weights, self.paf_weights))
        return Maps(heatmaps, pafs)

    def write_onnx(self, path: Path, batch: int | str = "batch") -> Path:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        contract, (h, w) = self.contract, self.contract.map_hw
        weights = {"heat": self.heatmap_weights, "paf": self.paf_weights}
        nodes = [helper.make_node("AveragePool", [contract.input.name], ["means"], "pool", kernel_shape=[4, 4], strides=[4, 4])]
        outputs = (("heat", contract.output.heatmaps), ("paf", contract.output.pafs))
        nodes += [helper.make_node("Conv", ["means", f"{name}_weights"], [output], name) for name, output in outputs]
        tensors = [numpy_helper.from_array(m[:, :, None, None], f"{name}_weights") for name, m in weights.items()]
        size = [batch, 3, contract.input.height, contract.input.width]
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [batch, len(weights[n]), h, w]) for n, o in outputs]
        graph = helper.make_graph(
            nodes, "tiny", [helper.make_tensor_value_info(contract.input.name, TensorProto.FLOAT, size)], infos, tensors
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path


@dataclass(frozen=True)
class EmulatedCuda:
    """The driver's library, and TensorRT on it, whose plans are ONNX files."""

    library: ctypes.CDLL
    tensorrt: TensorRt

    @property
    def alive(self) -> int:
        """Blocks of memory, handles and retained contexts that were not given back."""
        gc.collect()
        return int(self.library.emulated_alive())

    def engine(self, onnx: Path, contract: ModelContract, slots: int = 1, batch: int = 1, graphs: bool = True) -> TensorRtEngine:
        return engine_from_plan(_plan_in(onnx, BuildSettings()), contract, self.tensorrt, find_gpu(), slots, batch, graphs)


@dataclass(frozen=True)
class RealCuda:
    """TensorRT on this machine's GPU, its plans built in `folder`, each once."""

    folder: Path

    def engine(self, onnx: Path, contract: ModelContract, slots: int = 1, batch: int = 1, graphs: bool = True) -> TensorRtEngine:
        return engine_from_plan(self._plan(onnx, batch), contract, import_tensorrt(), find_gpu(), slots, batch, graphs)

    def _plan(self, onnx: Path, batch: int) -> Plan:
        settings = BuildSettings(batches=(batch, batch, batch))
        file = self.folder / f"{record_of(onnx).sha256}-{batch}.plan"
        if not file.exists():
            run_builder(onnx, "fp32", settings, file, file.with_suffix(".log"), lambda *_: None)
        return _plan_in(file, settings)


def _plan_in(file: Path, settings: BuildSettings) -> Plan:
    key = PlanKey(onnx_sha256="", tensorrt="", compute_capability="", gpu="", settings=settings)
    return Plan(file, PlanRecord(key=key, plan=record_of(file), log="", seconds=0))


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    """Two keypoints and one limb; odd means and RGB order, so that every slip in preprocessing changes the maps."""
    contract = ModelContract(
        input=InputContract(
            name="picture", height=24, width=32, channels="RGB", mean=(103.5, 116.5, 123.5), std=(57.0, 58.5, 61.0), fit=Fit.LETTERBOX
        ),
        output=OutputContract(heatmaps="heat_out", pafs="paf_out", heatmap_channels=3, paf_channels=2, stride=4, background=True),
        skeleton=Skeleton(name="dumbbell", keypoints=("left", "right"), limbs=(Limb(start=0, end=1, x=0, y=1),)),
    )
    rng = np.random.default_rng(3)
    return TinyModel(contract, *(rng.standard_normal((n, 3)).astype(np.float32) for n in (3, 2)))


@pytest.fixture(scope="session")
def tiny_bundles(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small network for OpenVINO and for TensorRT, in FP32."""
    folder = tmp_path_factory.mktemp("tiny")
    network = network_from_onnx(tiny_model.write_onnx(folder / "tiny.onnx"), tiny_model.contract)
    names = ("ov-fp32", "trt-fp32")
    made = export_bundles(network, [target_named(name) for name in names], folder, 1)
    return {name: each.bundle.path for name, each in zip(names, made, strict=True)}


@pytest.fixture(scope="session")
def painted_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network that finds painted people; see tests/painted_people.py."""
    folder = tmp_path_factory.mktemp("painted")
    network = network_from_onnx(painted_people.write_painted_network(folder / "painted.onnx"), painted_people.CONTRACT)
    names = ("ov-fp32", "onnx")
    made = export_bundles(network, [target_named(name) for name in names], folder, pictures=painted_people.painted_pictures(4))
    return {name: each.bundle.path for name, each in zip(names, made, strict=True)}


@pytest.fixture(scope="session")
def painted_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six files with one or two painted people each."""
    import cv2

    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.png" for index in range(6)]
    for path, picture in zip(paths, painted_people.painted_pictures(len(paths)), strict=True):
        cv2.imwrite(str(path), picture)
    return paths


@pytest.fixture(scope="session")
def emulated_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVIDIA's driver library on the CPU; see tests/emulated_cuda/libcuda.cpp."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("cuda") / "libcuda.so"
    source, headers = ROOT / "tests" / "emulated_cuda" / "libcuda.cpp", ROOT / "runtime" / "_native"
    subprocess.run(
        [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Werror", f"-I{headers}", source, "-o", library], check=True
    )
    return library


@pytest.fixture
def emulated_cuda(emulated_driver: Path, monkeypatch: pytest.MonkeyPatch) -> EmulatedCuda:
    """Driver and TensorRT emulated for one test, and everything given back at its end."""
    library = ctypes.CDLL(str(emulated_driver))
    spec = importlib.util.spec_from_file_location("emulated_tensorrt", ROOT / "tests" / "emulated_cuda" / "tensorrt.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Context.library = library
    monkeypatch.setattr("edgepose.engines.cuda_driver._LIBRARY", str(emulated_driver))
    monkeypatch.setattr("edgepose.engines.cuda_preprocess.prebuilt_kernel", lambda: b"the emulated driver has its own")
    return EmulatedCuda(library, TensorRt(module, "Emulated TensorRT", "99.0"))


@pytest.fixture(scope="session")
def real_cuda(tmp_path_factory: pytest.TempPathFactory) -> RealCuda:
    return RealCuda(tmp_path_factory.mktemp("plans"))


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.needs("cuda-engine"))])
def any_cuda(request: pytest.FixtureRequest) -> EmulatedCuda | RealCuda:
    cuda: EmulatedCuda | RealCuda = request.getfixturevalue(f"{request.param}_cuda")
    return cuda


@pytest.fixture
def random_pictures() -> Callable[[int, int, int], NDArray[np.uint8]]:
    """(n, height, width) -> smooth random BGR pictures (n, height, width, 3)."""
    import cv2

    def make(n: int, height: int, width: int) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(n).integers(0, 256, (n, 6, 8, 3), np.uint8)
        return np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse])

    return make


@pytest.fixture(scope="session")
def real_network(assets: Path) -> Network:
    name = "human-pose-estimation-0001"
    return network_from_architecture(name, assets / "weights" / f"{name}.pth")


@pytest.fixture(scope="session")
def real_bundles(real_network: Network, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """human-pose-estimation-0001 at 256 x 456, compared on real pictures."""
    out = tmp_path_factory.mktemp("real")
    names = ["onnx", "ov-fp32", "ov-fp16"]
    pictures = picture_sample(assets / "coco" / "val", 12, real_network)
    made = export_bundles(real_network, [target_named(n) for n in names], out, 1, pictures)
    return dict(zip(names, made, strict=True))
