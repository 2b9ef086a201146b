"""The TensorRT engine and its CUDA face on an emulated driver and on a GPU: graphs, camera pictures, order, and what is given back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.engines import Engine
from edgepose.engines.bundle import Manifest, SourceRecord, bundle_directory, record_of, write_manifest
from edgepose.engines.camera_picture import CameraPicture, PixelFormat
from edgepose.engines.cuda import Cuda, Event
from edgepose.engines.cuda_kernel import compiled_kernel
from edgepose.engines.errors import BackendUnavailable, EngineLoadError, InferenceFailed, ShapeMismatch
from edgepose.engines.gpu import find_gpu
from edgepose.engines.preprocess_reference import fitted
from edgepose.engines.registry import open_engine
from edgepose.engines.tensorrt_.plan import BuildSettings


@pytest.fixture
def onnx(tiny_model: Any, tmp_path: Path) -> Path:
    return Path(tiny_model.write_onnx(tmp_path / "tiny.onnx"))


def test_the_emulated_driver_describes_its_gpu(emulated_cuda: Any) -> None:
    assert emulated_cuda.alive >= 0
    assert str(find_gpu()) == "Emulated (compute capability 8.7, 8192 MiB)" and find_gpu().driver_cuda == "13.0"


@pytest.mark.parametrize("graphs", [True, False])
def test_with_and_without_graphs_the_maps_are_the_same(
    any_cuda: Any, onnx: Path, tiny_model: Any, random_pictures: Any, graphs: bool
) -> None:
    engine = any_cuda.engine(onnx, tiny_model.contract, graphs=graphs)
    _run_and_compare(engine, tiny_model, random_pictures(5, 24, 32))
    assert (engine.slots[0]._graph is not None) == graphs
    engine.close()


@pytest.mark.parametrize(("graphs", "forbidden", "enqueued"), [(True, False, 2), (False, False, 5), (True, True, 5)])
def test_only_the_second_inference_is_recorded(
    emulated_cuda: Any,
    onnx: Path,
    tiny_model: Any,
    random_pictures: Any,
    monkeypatch: pytest.MonkeyPatch,
    graphs: bool,
    forbidden: bool,
    enqueued: int,
) -> None:
    """The first is enqueued, all later ones replay the record; where recording fails, all are enqueued."""
    if forbidden:
        monkeypatch.setenv("EMULATED_CUDA_NO_GRAPHS", "1")
    engine = emulated_cuda.engine(onnx, tiny_model.contract, graphs=graphs)
    _run_and_compare(engine, tiny_model, random_pictures(5, 24, 32))
    assert engine.slots[0]._context.enqueued == enqueued + forbidden  # a recording that failed was an attempt
    engine.close()


def _run_and_compare(engine: Engine, tiny_model: Any, pictures: NDArray[np.uint8]) -> None:
    slot = engine.slots[0]
    for picture in pictures:
        slot.pictures[0] = picture
        slot.start()
        np.testing.assert_allclose(slot.wait().heatmaps, tiny_model.maps(picture[None]).heatmaps, atol=2e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_where_the_gpu_shares_the_hosts_memory_nothing_is_copied(
    emulated_cuda: Any, onnx: Path, tiny_model: Any, random_pictures: Any, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if shared:
        monkeypatch.setenv("EMULATED_CUDA_SHARED_MEMORY", "1")
    before = emulated_cuda.library.emulated_copies()
    engine = emulated_cuda.engine(onnx, tiny_model.contract, graphs=False)
    for picture in random_pictures(3, 24, 32):
        engine.slots[0].pictures[0] = picture
        engine.slots[0].start()
        np.testing.assert_allclose(engine.slots[0].wait().pafs, tiny_model.maps(picture[None]).pafs, atol=2e-5)
    assert emulated_cuda.library.emulated_copies() - before == (0 if shared else 3 * 3)
    engine.close()


def test_a_cameras_picture_goes_in_without_the_host(any_cuda: Any, onnx: Path, tiny_model: Any) -> None:
    contract = tiny_model.contract
    rng = np.random.default_rng(1)
    engine = any_cuda.engine(onnx, contract)
    slot = engine.slots[0]
    cuda = Cuda()
    stream = cuda.stream()
    bgr = rng.integers(0, 256, (70, 91, 3), np.uint8)
    memory = cuda.memory(bgr.nbytes)
    stream.to_device(memory.address, bgr)
    stream.wait()
    (place,) = slot.fit([CameraPicture(PixelFormat.BGR, (91, 70), memory.address, 3 * 91)])
    assert place == contract.input.place((91, 70))
    slot.start()
    wanted = tiny_model.maps(fitted(bgr, contract.input)[None])
    np.testing.assert_allclose(slot.wait().heatmaps, wanted.heatmaps, atol=2e-5)
    slot.pictures[:] = 0
    slot.start()
    np.testing.assert_allclose(slot.wait().heatmaps, tiny_model.maps(slot.pictures).heatmaps, atol=2e-5)
    with pytest.raises(ShapeMismatch, match="2 pictures for a batch of 1"):
        slot.fit([CameraPicture(PixelFormat.BGR, (91, 70), memory.address, 3 * 91)] * 2)
    engine.close()


def test_only_the_slots_own_event_is_waited_for(emulated_cuda: Any, onnx: Path, tiny_model: Any, random_pictures: Any) -> None:
    engine = emulated_cuda.engine(onnx, tiny_model.contract, slots=2)
    first, second = engine.slots
    first.pictures[:] = second.pictures[:] = random_pictures(1, 24, 32)
    first.start()
    second.start()
    first.wait()
    assert first._event.done() and not second._event.done()
    assert not second._maps.heatmaps.any(), "nobody has waited for the second, so its maps are not there yet"
    engine.close()


def test_an_inference_that_could_not_be_started_has_no_result(
    emulated_cuda: Any, onnx: Path, tiny_model: Any, random_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least of all the last picture's."""
    engine = emulated_cuda.engine(onnx, tiny_model.contract, graphs=False)
    (slot,) = engine.slots
    first, second = random_pictures(2, 24, 32)
    slot.pictures[0] = first
    slot.start()
    slot.wait()
    with monkeypatch.context() as broken:
        broken.setattr(type(slot._context), "execute_async_v3", lambda *_: False)
        with pytest.raises(InferenceFailed, match="could not be enqueued"):
            slot.start()
    with pytest.raises(RuntimeError, match="not in flight"):
        slot.wait()
    slot.pictures[0] = second
    slot.start()
    np.testing.assert_allclose(slot.wait().heatmaps, tiny_model.maps(second[None]).heatmaps, atol=2e-5)
    engine.close()


def test_a_plan_of_a_fixed_batch_is_built_once(
    emulated_cuda: Any, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, built = _bundle_of_four(tiny_model, tmp_path), []

    def copied(onnx: Path, _: str, settings: BuildSettings, plan: Path, *_rest: Any) -> dict[str, int]:
        built.append(settings.batches)
        shutil.copyfile(onnx, plan)
        return {}

    monkeypatch.setattr("edgepose.engines.tensorrt_.build.run_builder", copied)
    monkeypatch.setattr("edgepose.engines.tensorrt_.bindings.import_tensorrt", lambda: emulated_cuda.tensorrt)
    for build in (True, False):
        open_engine(bundle, "GPU", build=build).close()
    assert built == [(4, 4, 4)]


def _bundle_of_four(tiny_model: Any, folder: Path) -> Path:
    with bundle_directory(folder / "four.pose") as directory:
        model = tiny_model.write_onnx(directory / "model.onnx", 4)
        manifest = Manifest(
            name="four",
            target="trt-fp32",
            contract=tiny_model.contract,
            batch=4,
            model=model.name,
            files={model.name: record_of(model)},
            source=SourceRecord(network="tiny", weights="none", sha256=""),
            tools={"edgepose": "test"},
        )
        write_manifest(directory, manifest)
    return folder / "four.pose"


def test_engines_that_are_closed_leave_nothing_behind(emulated_cuda: Any, onnx: Path, tiny_model: Any) -> None:
    def open_and_close() -> None:
        engine = emulated_cuda.engine(onnx, tiny_model.contract, slots=2)
        for slot in engine.slots:
            slot.start()
            slot.wait()
            slot.start()
        engine.close()

    open_and_close()
    before = emulated_cuda.alive
    for _ in range(50):
        open_and_close()
    assert emulated_cuda.alive == before


def test_a_plan_that_tensorrt_refuses_gives_its_reason(emulated_cuda: Any, tiny_model: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.plan").write_bytes(b"no plan")
    with pytest.raises(EngineLoadError, match=r"bad\.plan: Emulated TensorRT 99\.0 refuses it \(.+\): run pose-build again"):
        emulated_cuda.engine(tmp_path / "bad.plan", tiny_model.contract)


def test_a_failing_call_names_itself(emulated_cuda: Any) -> None:
    assert emulated_cuda.library
    cuda = Cuda()
    with pytest.raises(InferenceFailed, match=r"CUDA: error 1 \(cuMemcpyHtoDAsync_v2\)"):
        cuda.stream().to_device(12345, np.zeros(3, np.uint8))
    event = Event(cuda)
    assert event.done()


@pytest.mark.needs("nvcc")
def test_the_kernel_is_compiled_once_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image = compiled_kernel("8.7")
    assert image[:4] == b"\x7fELF" and b"edgepose_fit_fp16" in image
    (cached,) = (tmp_path / "edgepose" / "cuda").iterdir()
    assert "sm_87" in cached.name
    cached.write_bytes(b"from the cache")
    assert compiled_kernel("8.7") == b"from the cache"
    with pytest.raises(EngineLoadError, match=r"nvcc cannot compile preprocess\.cu for sm_10"):
        compiled_kernel("1.0")


@pytest.mark.needs("nvcc")
def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert compiled_kernel("8.7")[:4] == b"\x7fELF"


def test_without_a_compiler_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BackendUnavailable, match="no nvcc to compile one"):
        compiled_kernel("8.7")
