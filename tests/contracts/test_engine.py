"""One suite for every backend: what a caller may rely on, whichever engine runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.engines import Engine
from edgepose.engines.errors import BackendUnavailable, EdgePoseError, ShapeMismatch
from edgepose.engines.fake import FakeEngine
from edgepose.engines.gpu import find_gpu
from edgepose.engines.onnxruntime_ import engine_from_onnx
from edgepose.engines.openvino_ import engine_from_ir

Open = Callable[..., Engine]


@pytest.fixture(params=["fake", "onnx", "ov-fp32", "emulated_cuda", pytest.param("real_cuda", marks=pytest.mark.needs("cuda-engine"))])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_tiny(backend: str, tiny_model: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    opened: list[Engine] = []

    def open_(slots: int = 1, batch: int = 1, device: str = "auto", contract: Any = tiny_model.contract) -> Engine:
        path = tiny_model.write_onnx(tmp_path / "tiny.onnx")
        if backend == "fake":
            engine: Engine = FakeEngine(contract, tiny_model.maps, slots, batch)
        elif backend.endswith("_cuda"):
            engine = request.getfixturevalue(backend).engine(path, contract, slots, batch)
        elif backend == "onnx":
            engine = engine_from_onnx(path, contract, device, slots, batch)
        else:
            engine = engine_from_ir(path, contract, "fp32", device, slots, batch)
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        engine.close()


def test_maps_are_those_of_the_float64_reference(open_tiny: Open, tiny_model: Any, random_pictures: Any) -> None:
    pictures = random_pictures(1, 24, 32)
    slot = open_tiny().slots[0]
    slot.pictures[:] = pictures
    slot.start()
    maps, wanted = slot.wait(), tiny_model.maps(pictures)
    assert maps.heatmaps.dtype == maps.pafs.dtype == np.float32
    np.testing.assert_allclose(maps.heatmaps, wanted.heatmaps, atol=2e-5)
    np.testing.assert_allclose(maps.pafs, wanted.pafs, atol=2e-5)


def test_every_picture_of_a_batch_gets_its_own_maps(open_tiny: Open, tiny_model: Any, random_pictures: Any) -> None:
    pictures = random_pictures(3, 24, 32)
    slot = open_tiny(batch=3).slots[0]
    assert slot.pictures.shape == (3, 24, 32, 3)
    slot.pictures[:] = pictures
    slot.start()
    np.testing.assert_allclose(slot.wait().heatmaps, tiny_model.maps(pictures).heatmaps, atol=2e-5)


def test_slots_in_flight_together_do_not_disturb_each_other(open_tiny: Open, tiny_model: Any, random_pictures: Any) -> None:
    pictures = random_pictures(12, 24, 32)
    slots = open_tiny(slots=3).slots
    for start in range(0, 12, 3):
        for slot, picture in zip(slots, pictures[start : start + 3], strict=True):
            slot.pictures[0] = picture
            slot.start()
        found = np.concatenate([slot.wait().heatmaps for slot in slots])
        np.testing.assert_allclose(found, tiny_model.maps(pictures[start : start + 3]).heatmaps, atol=2e-5)


def test_maps_stay_valid_while_other_slots_run(open_tiny: Open, tiny_model: Any, random_pictures: Any) -> None:
    pictures = random_pictures(2, 24, 32)
    first, second = open_tiny(slots=2).slots
    first.pictures[0], second.pictures[0] = pictures
    first.start()
    kept = first.wait()
    first.pictures[:] = 0
    second.start()
    second.wait()
    np.testing.assert_allclose(kept.heatmaps, tiny_model.maps(pictures[:1]).heatmaps, atol=2e-5)


def test_pictures_are_written_in_place(open_tiny: Open) -> None:
    slot = open_tiny().slots[0]
    memory = slot.pictures.ctypes.data
    for _ in range(3):
        slot.start()
        slot.wait()
        assert slot.pictures.ctypes.data == memory
    assert slot.pictures.flags.c_contiguous and slot.pictures.flags.writeable


def test_starting_twice_and_waiting_for_nothing_are_refused(open_tiny: Open) -> None:
    slot = open_tiny().slots[0]
    with pytest.raises(RuntimeError, match="not in flight"):
        slot.wait()
    slot.start()
    with pytest.raises(RuntimeError, match="started twice"):
        slot.start()
    slot.wait()


_FORGETFUL = """
import numpy as np
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.registry import open_engine

def forget():
    for slot in open_engine(default_bundle(), slots=2).slots:
        slot.start()

for _ in range(5):
    forget()
    rooms = [np.ones((1, 38, 32, 57), np.float32) for _ in range(20)]
engine = open_engine(default_bundle())
engine.slots[0].start()
"""


def test_an_engine_may_be_forgotten_with_work_in_flight() -> None:
    """As an exception between start and wait does, or the program's end: OpenVINO goes on writing into the slot's arrays."""
    done = subprocess.run([sys.executable, "-c", _FORGETFUL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


_EXCHANGED = """
import gc, signal, threading
from edgepose.engines.default_bundle import default_bundle
from edgepose.engines.registry import open_engine

heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
engines = [open_engine(default_bundle())]

def exchange():
    engines.append(open_engine(default_bundle()))
    engines.pop(0).close()
    gc.collect()

exchange()
thread = threading.Thread(target=exchange)
thread.start()
thread.join()
engines.pop().close()
gc.collect()
signal.raise_signal(signal.SIGTERM)
assert heard
"""


def test_signals_are_handled_after_engines_were_exchanged() -> None:
    """OpenVINO gives a thread another stack for its signal handlers, and may free it."""
    done = subprocess.run([sys.executable, "-c", _EXCHANGED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_with_work_in_flight_and_closing_twice_are_allowed(open_tiny: Open) -> None:
    engine = open_tiny(slots=2)
    engine.slots[0].start()
    engine.close()
    engine.close()
    assert engine.slots == ()


def test_a_contract_that_speaks_of_other_maps_is_refused(open_tiny: Open, tiny_model: Any) -> None:
    data = tiny_model.contract.model_dump()
    data["output"]["paf_channels"] = 4
    wrong = type(tiny_model.contract).model_validate(data)
    with pytest.raises(ShapeMismatch, match="the contract wants"):
        engine = open_tiny(contract=wrong)
        engine.slots[0].start()  # the fake has no model to look at before it runs


@pytest.mark.parametrize("backend", ["onnx", "ov-fp32"])
def test_a_device_that_is_not_there_is_refused_and_never_replaced(open_tiny: Open) -> None:
    with pytest.raises(BackendUnavailable, match="NPU9"):
        open_tiny(device="NPU9")


def test_the_execution_says_what_runs_and_why(open_tiny: Open, backend: str) -> None:
    execution = open_tiny().execution
    assert execution.device == (find_gpu().name if backend.endswith("_cuda") else "CPU") and execution.why
    if backend == "ov-fp32":
        assert set(execution.precisions) == {"f32"}, "true FP32 was asked for"


@pytest.mark.parametrize("backend", ["onnx", "ov-fp32"])
def test_a_file_that_is_not_a_model_gives_one_line(backend: str, tiny_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(b"\x00 not a model")
    with pytest.raises(EdgePoseError) as caught:
        if backend == "onnx":
            engine_from_onnx(path, tiny_model.contract, "auto", 1, 1)
        else:
            engine_from_ir(path, tiny_model.contract, "fp32", "auto", 1, 1)
    assert "\n" not in str(caught.value) and "export it again" in str(caught.value)
