"""The preprocessing kernel against the float64 reference: its arithmetic (`preprocess.cuh`, compiled as plain C++), and on a GPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from edgepose.engines import Fit, InputContract
from edgepose.engines.camera_picture import BT601, BT601_FULL, BT709, CameraPicture, PixelFormat, YuvColours
from edgepose.engines.cuda import Cuda, Exchange
from edgepose.engines.cuda_preprocess import CudaPreprocess, KernelParameters, kernel_parameters
from edgepose.engines.errors import ConfigError, ShapeMismatch
from edgepose.engines.gpu import find_gpu
from edgepose.engines.preprocess_reference import network_input

NATIVE = Path(__file__).resolve().parents[2] / "runtime" / "_native"
SOURCE = """
#include "preprocess.cuh"
extern "C" {
int32_t size_of_parameters() { return sizeof(edgepose::PreprocessParameters); }
void fit(const edgepose::PreprocessParameters* p, float* out) {
  for (int32_t y = 0; y < p->height; ++y)
    for (int32_t x = 0; x < p->width; ++x) {
      float values[3];
      edgepose::network_pixel(*p, x, y, values);
      for (int c = 0; c < 3; ++c) out[(c * p->height + y) * p->width + x] = values[c];
    }
}
}
"""
LEVELS = 1e-3
"""FP32 against float64, in levels of 0 to 255."""
Run = Callable[[CameraPicture, InputContract], NDArray[np.float32]]
Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The header as plain C++, trapping on undefined behaviour."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("preprocess")
    (folder / "fit.cpp").write_text(SOURCE)
    options = [
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=undefined",
        "-fsanitize-undefined-trap-on-error",
    ]
    subprocess.run([compiler, *options, f"-I{NATIVE}", "-x", "c++", folder / "fit.cpp", "-o", folder / "fit.so"], check=True)
    return ctypes.CDLL(str(folder / "fit.so"))


@pytest.fixture(params=["arithmetic", "emulated GPU", pytest.param("GPU", marks=pytest.mark.needs("cuda-engine"))])
def run(request: pytest.FixtureRequest) -> Run:
    """Pictures in the host's memory; a GPU gets copies."""
    if request.param == "arithmetic":
        return partial(_arithmetic, request.getfixturevalue("library"))
    if request.param == "emulated GPU":
        request.getfixturevalue("emulated_cuda")
    return _Launched(np.float32)


def _arithmetic(library: ctypes.CDLL, picture: CameraPicture, contract: InputContract) -> NDArray[np.float32]:
    out = np.full((3, contract.height, contract.width), np.nan, np.float32)
    parameters, _ = kernel_parameters(picture, contract)
    library.fit(ctypes.byref(parameters), out.ctypes.data_as(ctypes.c_void_p))
    return out


class _Launched:
    """The kernel on the driver's GPU."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._cuda, self._dtype = Cuda(), np.dtype(dtype)
        self._stream, self._kernel = self._cuda.stream(), CudaPreprocess(self._cuda, find_gpu().compute_capability)

    def __call__(self, picture: CameraPicture, contract: InputContract) -> NDArray[Any]:
        h = picture.size_wh[1]
        pixels = self._sent(ctypes.string_at(picture.pixels, h * picture.pitch))
        chroma = self._sent(ctypes.string_at(picture.chroma, (h + 1) // 2 * picture.chroma_pitch)) if picture.chroma else None
        there = replace(picture, pixels=pixels.address, chroma=chroma.address if chroma else 0)
        out = self._cuda.exchange((3, contract.height, contract.width), self._dtype, shared=False)
        out.array[:] = np.nan
        out.send(self._stream)
        self._kernel.launch(self._stream, kernel_parameters(there, contract)[0], out.address, self._dtype)
        out.fetch(self._stream)
        self._stream.wait()
        return out.array

    def _sent(self, content: bytes) -> Exchange:
        memory = self._cuda.exchange((len(content),), np.uint8, shared=False)
        memory.array[:] = np.frombuffer(content, np.uint8)
        memory.send(self._stream)
        return memory


def contract_of(fit: Fit, size_hw: tuple[int, int] = (24, 40), channels: str = "RGB") -> InputContract:
    return InputContract.parse(
        {
            "name": "x", "height": size_hw[0], "width": size_hw[1], "channels": channels, "fit": fit,
            "mean": (103.5, 116.5, 123.7), "std": (57.0, 58.5, 61.0), "pad_value": (10, 20, 30),
        },
        "test",
    )  # fmt: skip


def in_memory(rows: Bytes, slack: int) -> tuple[Bytes, int]:
    """The same bytes with `slack` bytes between rows, and their pitch; what lies between is never to be seen."""
    padded = np.full((rows.shape[0], rows.shape[1] + slack), 255, np.uint8)
    padded[:, : rows.shape[1]] = rows
    return padded, padded.shape[1]


def assert_agrees(found: NDArray[np.float32], levels: NDArray[Any], contract: InputContract) -> None:
    wanted = network_input(levels, contract)
    worst = (np.abs(found - wanted) * np.array(contract.std)[:, None, None]).max()
    assert worst <= LEVELS


def test_python_and_native_code_agree_on_the_parameters(library: ctypes.CDLL) -> None:
    assert library.size_of_parameters() == ctypes.sizeof(KernelParameters)


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("format_", [PixelFormat.BGR, PixelFormat.RGB])
def test_packed_pixels_of_any_size_pitch_and_crop(run: Run, fit: Fit, format_: PixelFormat) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 9), st.integers(0, 2**31), st.sampled_from(["RGB", "BGR"]))
    def check(w: int, h: int, slack: int, seed: int, channels: str) -> None:
        rng = np.random.default_rng(seed)
        bgr = rng.integers(0, 256, (h, w, 3), np.uint8)
        stored = bgr if format_ is PixelFormat.BGR else bgr[..., ::-1]
        memory, pitch = in_memory(np.ascontiguousarray(stored).reshape(h, -1), slack)
        x, y = int(rng.integers(0, w)), int(rng.integers(0, h))
        crop = x, y, int(rng.integers(1, w - x + 1)), int(rng.integers(1, h - y + 1))
        contract = contract_of(fit, channels=channels)
        found = run(CameraPicture(format_, (w, h), memory.ctypes.data, pitch, crop_xywh=crop), contract)
        assert_agrees(found, bgr[y : y + crop[3], x : x + crop[2]], contract)

    check()


def yuv(rng: np.random.Generator, w: int, h: int, rows: int) -> tuple[Bytes, Bytes, Bytes]:
    """Y (h, w), and U, V (rows of chroma, half the width)."""
    half = (rows, (w + 1) // 2)
    return rng.integers(0, 256, (h, w), np.uint8), rng.integers(0, 256, half, np.uint8), rng.integers(0, 256, half, np.uint8)


@pytest.mark.parametrize("colours", [BT601, BT601_FULL, BT709])
def test_nv12_of_any_size_pitch_and_crop(run: Run, colours: YuvColours) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9), st.integers(0, 2**31))
    def check(w: int, h: int, slack: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        y, u, v = yuv(rng, w, h, (h + 1) // 2)
        luma, pitch = in_memory(y, slack)
        chroma, chroma_pitch = in_memory(np.stack([u, v], -1).reshape(len(u), -1), slack + 1)
        cx, cy = int(rng.integers(0, w)), int(rng.integers(0, h))
        crop = cx, cy, int(rng.integers(1, w - cx + 1)), int(rng.integers(1, h - cy + 1))
        contract = contract_of(Fit.LETTERBOX)
        picture = CameraPicture(PixelFormat.NV12, (w, h), luma.ctypes.data, pitch, chroma.ctypes.data, chroma_pitch, colours, crop)
        full = colours.bgr(y, *(np.repeat(np.repeat(c, 2, 0), 2, 1)[:h, :w] for c in (u, v)))
        assert_agrees(run(picture, contract), full[cy : cy + crop[3], cx : cx + crop[2]], contract)

    check()


def test_yuyv_of_any_size_and_pitch(run: Run) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9), st.integers(0, 2**31))
    def check(w: int, h: int, slack: int, seed: int) -> None:
        y, u, v = yuv(np.random.default_rng(seed), w + w % 2, h, h)
        packed = np.empty((h, (w + 1) // 2, 4), np.uint8)
        packed[..., 0], packed[..., 1], packed[..., 2], packed[..., 3] = y[:, ::2], u, y[:, 1::2], v
        memory, pitch = in_memory(packed.reshape(h, -1), slack)
        contract = contract_of(Fit.STRETCH)
        full = BT601.bgr(y, np.repeat(u, 2, 1), np.repeat(v, 2, 1))[:, :w]
        assert_agrees(run(CameraPicture(PixelFormat.YUYV, (w, h), memory.ctypes.data, pitch), contract), full, contract)

    check()


def test_a_photographs_colours_are_those_that_opencv_gives(run: Run, assets: Path) -> None:
    """Through OpenCV's own YUV 4:2:0, which has NV12's samples in three planes."""
    bgr = cv2.imread(str(sorted((assets / "people" / "unlabelled").iterdir())[0]))
    bgr = bgr[: bgr.shape[0] // 2 * 2, : bgr.shape[1] // 4 * 4]
    h, w = bgr.shape[:2]
    planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    uv = np.stack([planes[h:].reshape(2, h // 2, w // 2)[i] for i in (0, 1)], -1).reshape(h // 2, w)
    luma, uv = np.ascontiguousarray(planes[:h]), np.ascontiguousarray(uv)
    contract = contract_of(Fit.STRETCH, (h, w), "BGR")
    picture = CameraPicture(PixelFormat.NV12, (w, h), luma.ctypes.data, w, uv.ctypes.data, w)
    levels = run(picture, contract) * np.array(contract.std)[:, None, None] + np.array(contract.mean)[:, None, None]
    theirs = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
    assert np.abs(np.moveaxis(levels, 0, -1) - theirs).max() <= 1.5


def test_sizes_beyond_fp32_are_placed_exactly(run: Run) -> None:
    """One bright column 30,000 pixels out: FP32 positions would have lost the fraction."""
    w = 30_011
    bgr = np.zeros((1, w, 3), np.uint8)
    bgr[0, -5:] = 255, 128, 64
    contract = contract_of(Fit.STRETCH, (1, w - 2))
    assert_agrees(run(CameraPicture(PixelFormat.BGR, (w, 1), bgr.ctypes.data, 3 * w), contract), bgr, contract)


@pytest.mark.needs("cuda-engine")
def test_half_precision_is_the_rounded_input() -> None:
    bgr = np.random.default_rng(2).integers(0, 256, (50, 70, 3), np.uint8)
    contract, picture = contract_of(Fit.LETTERBOX), CameraPicture(PixelFormat.BGR, (70, 50), bgr.ctypes.data, 210)
    np.testing.assert_allclose(_Launched(np.float16)(picture, contract), network_input(bgr, contract), rtol=2**-10, atol=LEVELS)


def test_pictures_that_cannot_be_are_refused() -> None:
    with pytest.raises(ShapeMismatch, match="BGR picture 10 x 4 with rows of 29 bytes: wanted at least 30"):
        CameraPicture(PixelFormat.BGR, (10, 4), 1, 29)
    with pytest.raises(ShapeMismatch, match="wanted a plane with rows of at least 10"):
        CameraPicture(PixelFormat.NV12, (9, 4), 1, 9)
    with pytest.raises(ConfigError, match=r"crop 5 x 4 at \(6, 0\) does not lie in a picture of 10 x 4"):
        CameraPicture(PixelFormat.BGR, (10, 4), 1, 30, crop_xywh=(6, 0, 5, 4))
