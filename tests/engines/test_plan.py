"""Plans: kept beside the ONNX they were built from, and each one that does not belong here is told apart by its own reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgepose.engines.bundle import open_bundle
from edgepose.engines.errors import BackendUnavailable, BundleCorrupt, BundleStale, EngineLoadError
from edgepose.engines.gpu import Gpu, find_gpu
from edgepose.engines.tensorrt_.bindings import TensorRt, import_tensorrt
from edgepose.engines.tensorrt_.build import built_plan, run_builder
from edgepose.engines.tensorrt_.plan import BuildSettings, PlanFolder, PlanKey

ORIN = Gpu("Orin", "8.7", 15_656, True, "12.6")
SETTINGS = BuildSettings()


@pytest.fixture
def plans(tmp_path: Path) -> PlanFolder:
    return PlanFolder(tmp_path / "plans", "a" * 64)


def key_of(plans: PlanFolder, tensorrt: str = "TensorRT 10.3.0", gpu: Gpu = ORIN, settings: BuildSettings = SETTINGS) -> PlanKey:
    return plans.key(tensorrt, gpu.compute_capability, gpu.name, settings)


def stored(plans: PlanFolder, key: PlanKey, content: bytes = b"plan of 24 bytes in all.") -> Path:
    return plans.store(key, "build.log", lambda path: {"f32": path.write_bytes(content)}).path


def test_a_plan_comes_back_under_its_key(plans: PlanFolder) -> None:
    path = stored(plans, key_of(plans))
    found, reasons = plans.find(key_of(plans))
    assert found is not None and found.path == path and reasons == []
    assert path.read_bytes() == b"plan of 24 bytes in all."
    assert {file.suffix for file in plans.folder.iterdir()} == {".plan", ".json"}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"tensorrt": "TensorRT 8.6.2"}, "it was built by TensorRT 10.3.0, this machine has TensorRT 8.6.2"),
        ({"compute_capability": "11.0"}, "it was built for compute capability 8.7, this GPU has 11.0"),
        ({"gpu": "Orin Nano"}, "it was built on Orin, this is Orin Nano"),
        ({"onnx_sha256": "b" * 64}, "it was built from another model.onnx (sha256 aaaaaaaaaaaa..., wanted bbbbbbbbbbbb...)"),
        ({"settings": BuildSettings(dla_core=1)}, "it was built with other settings (dla_core None, wanted 1)"),
    ],
)
def test_a_plan_from_elsewhere_says_what_differs(plans: PlanFolder, other: dict[str, object], reason: str) -> None:
    path = stored(plans, key_of(plans))
    found, reasons = plans.find(key_of(plans).model_copy(update=other))
    assert found is None and reasons == [f"plans/{path.name}: {reason}"]


def test_what_runs_takes_the_plan_that_was_built_whatever_its_settings(plans: PlanFolder) -> None:
    path = stored(plans, key_of(plans, settings=BuildSettings(low_memory=True, batches=(1, 2, 4))))
    found, _ = plans.find(key_of(plans), batch=4)
    assert found is not None and found.path == path
    assert plans.find(key_of(plans), batch=5) == (None, [f"plans/{path.name}: it takes batches of 1 to 4, wanted 5"])
    assert plans.find(key_of(plans))[0] is None


@pytest.mark.parametrize(
    ("settings", "elsewhere", "usable"),
    [
        (BuildSettings(hardware_compatible=True), {"gpu": "L4", "compute_capability": "8.9"}, True),
        (BuildSettings(hardware_compatible=True), {"gpu": "T4", "compute_capability": "7.5"}, False),
        (BuildSettings(hardware_compatible=True), {"tensorrt": "TensorRT 10.4.0"}, False),
        (BuildSettings(version_compatible=True), {"tensorrt": "TensorRT 10.13.0"}, True),
        (BuildSettings(version_compatible=True), {"tensorrt": "TensorRT 10.2.9"}, False),
        (BuildSettings(version_compatible=True), {"tensorrt": "TensorRT-RTX 11.0.0"}, False),
        (BuildSettings(version_compatible=True), {"gpu": "L4", "compute_capability": "8.9"}, False),
    ],
)
def test_a_plan_that_was_built_to_travel_does(
    plans: PlanFolder, settings: BuildSettings, elsewhere: dict[str, object], usable: bool
) -> None:
    stored(plans, key_of(plans, settings=settings))
    found, _ = plans.find(key_of(plans).model_copy(update=elsewhere), batch=1)
    assert (found is not None) is usable


def test_a_torn_a_changed_and_an_unvouched_plan_are_told_apart(plans: PlanFolder) -> None:
    path = stored(plans, key_of(plans))
    whole = path.read_bytes()
    for content, reason in ((whole[:7], "7 bytes, wanted 24: torn"), (b"PLAN" + whole[4:], "changed since it was built (sha256 differs)")):
        path.write_bytes(content)
        assert plans.find(key_of(plans)) == (None, [f"plans/{path.name}: {reason}"])
    path.write_bytes(whole)
    path.with_suffix(".json").write_text("{")
    found, (reason,) = plans.find(key_of(plans))
    assert found is None and "its record cannot be read" in reason
    path.with_suffix(".json").unlink()
    assert "No such file" in plans.find(key_of(plans))[1][0]


def test_a_build_that_fails_leaves_nothing_that_opens(plans: PlanFolder) -> None:
    stored(plans, key_of(plans))

    def fail(path: Path) -> dict[str, int]:
        path.write_bytes(b"half")
        raise EngineLoadError("out of luck")

    with pytest.raises(EngineLoadError, match="out of luck"):
        plans.store(key_of(plans), "build.log", fail)
    found, reasons = plans.find(key_of(plans))
    assert found is None and len(reasons) == 1
    assert not list(plans.folder.glob("*.part"))


@pytest.fixture
def bundle(tiny_bundles: dict[str, Path], tmp_path: Path) -> Path:
    path = tiny_bundles["trt-fp32"]
    return Path(shutil.copytree(path, tmp_path / path.name))


@pytest.mark.needs("tensorrt_rtx_bindings")
def test_a_bundle_is_built_once_and_found_again(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the real builder, in its own process; TensorRT-RTX needs no GPU for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    ticks: list[tuple[str, int, int]] = []
    opened, tensorrt = open_bundle(bundle), import_tensorrt()
    plan = built_plan(opened, tensorrt, ORIN, SETTINGS, say=said.append, tick=lambda *step: ticks.append(step))
    assert plan.record.layers == {"f32": 2}
    assert plan.record.plan.bytes == plan.path.stat().st_size > 1_000 and plan.record.seconds > 0
    assert len(said) == 1 and "builds tiny" in said[0] and ticks
    assert (plan.path.parent / plan.record.log).is_file()
    assert built_plan(open_bundle(bundle), tensorrt, ORIN, SETTINGS, build=False).path == plan.path
    with pytest.raises(BundleStale, match=r"it was built on Orin, this is Orin Nano\): run pose-build"):
        built_plan(opened, tensorrt, Gpu("Orin Nano", "8.7", 7_000, True, "12.6"), SETTINGS, build=False)
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"tampered")
    with pytest.raises(BundleCorrupt, match=r"model\.onnx: \d+ bytes, wanted \d+: torn"):
        open_bundle(bundle)


@pytest.mark.needs("tensorrt_rtx_bindings")
def test_a_plan_is_not_lost_because_its_timings_cannot_be_kept(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = built_plan(open_bundle(bundle), import_tensorrt(), ORIN, SETTINGS)
    assert plan.path.stat().st_size > 1_000
    assert "timing.cache: Not a directory" in (plan.path.parent / plan.record.log).read_text()


@pytest.mark.needs("tensorrt_rtx_bindings")
def test_what_the_builder_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not an ONNX file")
    with pytest.raises(EngineLoadError, match="cannot read it"):
        run_builder(tmp_path / "model.onnx", "fp32", SETTINGS, tmp_path / "x.plan", tmp_path / "x.log", lambda *_: None)
    assert "error: " in (tmp_path / "x.log").read_text()
    assert not (tmp_path / "x.plan").exists()


def test_without_a_driver_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepose.engines.cuda_driver._LIBRARY", "libcuda-that-is-not-there.so")
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver"):
        find_gpu()


@pytest.mark.needs("cuda")
def test_the_driver_describes_its_gpu() -> None:
    gpu = find_gpu()
    assert gpu.name and gpu.memory_mib > 0
    assert all(part.isdigit() for part in (*gpu.compute_capability.split("."), *gpu.driver_cuda.split(".")))


def test_without_tensorrt_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepose.engines.tensorrt_.bindings._MODULES", ("tensorrt_that_is_not_there",))
    with pytest.raises(BackendUnavailable, match="TensorRT is not installed: on a Jetson: sudo apt install"):
        import_tensorrt()


class _Eight:
    """The names of TensorRT 8.6's enumerations that the builder looks for."""

    class NetworkDefinitionCreationFlag:
        EXPLICIT_BATCH = 0

    class BuilderFlag:
        FP16, INT8 = 0, 1

    class IBuilderConfig:
        progress_monitor = None


def test_the_era_is_read_from_the_library() -> None:
    old = TensorRt(_Eight, "TensorRT", "8.6.2")
    assert not old.strongly_typed and old.explicit_batch_flag and old.precision_flags == ("FP16", "INT8") and not old.progress
    assert str(old) == "TensorRT 8.6.2"
