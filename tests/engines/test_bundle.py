from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepose.engines import open_bundle, open_engine
from edgepose.engines.bundle import MANIFEST, Bundle, FileRecord, Manifest, SourceRecord, bundle_directory, record_of, write_manifest
from edgepose.engines.errors import BundleCorrupt, BundleStale, ConfigError, ShapeMismatch, SinkError


def write_bundle(path: Path, tiny_model: Any, batch: Any = "dynamic") -> Bundle:
    with bundle_directory(path) as directory:
        model = tiny_model.write_onnx(directory / "model.onnx", "batch" if batch == "dynamic" else batch)
        manifest = Manifest(
            name="tiny",
            target="onnx",
            contract=tiny_model.contract,
            batch=batch,
            model=model.name,
            files={model.name: record_of(model)},
            source=SourceRecord(network="tiny", weights="none", sha256=""),
            tools={"edgepose": "test"},
        )
        write_manifest(directory, manifest)
    return open_bundle(path)


@pytest.fixture
def bundle(tmp_path: Path, tiny_model: Any) -> Bundle:
    return write_bundle(tmp_path / "tiny.pose", tiny_model)


def test_a_bundle_comes_back_as_it_was_written(bundle: Bundle, tiny_model: Any) -> None:
    assert bundle.contract == tiny_model.contract
    assert bundle.target.name == "onnx"
    assert [p.name for p in bundle.path.parent.iterdir()] == ["tiny.pose"], "nothing is left beside it"


def test_an_engine_opens_from_it_in_any_batch(bundle: Bundle) -> None:
    assert open_engine(bundle.path).slots[0].pictures.shape == (1, 24, 32, 3)
    assert open_engine(bundle, slots=2, batch=3).slots[1].pictures.shape == (3, 24, 32, 3)


def test_a_fixed_batch_is_kept(tmp_path: Path, tiny_model: Any) -> None:
    fixed = write_bundle(tmp_path / "fixed.pose", tiny_model, batch=2)
    assert open_engine(fixed).slots[0].pictures.shape[0] == 2
    with pytest.raises(ShapeMismatch, match="--batch 4"):
        open_engine(fixed, batch=4)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edited(path: Path) -> None:
    data = json.loads(path.read_text())
    data["contract"]["input"]["mean"][0] += 1
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("file", "harm", "words"),
    [
        ("model.onnx", torn, "torn"),
        ("model.onnx", flipped, "changed since it was exported"),
        ("model.onnx", Path.unlink, "missing from the bundle"),
        (MANIFEST, torn, "not JSON"),
        (MANIFEST, lambda p: p.write_text("[" * 100_000), "not JSON"),
        (MANIFEST, lambda p: p.write_text('{"schema_version": ' + "9" * 5_000 + "}"), "not JSON"),
        (MANIFEST, edited, "edited or torn"),
        (MANIFEST, Path.unlink, "no pose.json"),
        (MANIFEST, lambda p: p.write_text("[]"), "not a JSON object"),
    ],
)
def test_harm_is_recognised_and_named(bundle: Bundle, file: str, harm: Any, words: str) -> None:
    harm(bundle.path / file)
    with pytest.raises(BundleCorrupt) as caught:
        open_bundle(bundle.path)
    assert words in str(caught.value) and "again" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told_as_that(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> FileRecord:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("edgepose.engines.bundle.record_of", refused)  # root, as in a container, may read anything
    with pytest.raises(BundleCorrupt, match=r"model\.onnx: Permission denied: make it readable"):
        open_bundle(bundle.path)


@pytest.mark.parametrize(("key", "value"), [("model", "other.onnx"), ("files", {"../hosts": {"sha256": "a" * 64, "bytes": 1}})])
def test_a_manifest_that_speaks_of_files_elsewhere_is_refused(bundle: Bundle, key: str, value: Any) -> None:
    data = bundle.manifest.model_dump(mode="json")
    data[key] = value | data[key] if key == "files" else value
    with pytest.raises(ConfigError, match=r"none of its files|no name of a file in the bundle"):
        Manifest.parse(data, "pose.json")


def test_a_newer_schema_is_stale_not_corrupt(bundle: Bundle) -> None:
    path = bundle.path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2, "novelty": True}))
    with pytest.raises(BundleStale, match="schema 2, this edgepose reads up to 1"):
        open_bundle(bundle.path)


def test_what_is_not_a_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a bundle"):
        open_bundle(tmp_path / "none.pose")


def test_a_failed_write_leaves_nothing_and_keeps_the_older_bundle(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="proof failed"), bundle_directory(bundle.path) as directory:
        (directory / "model.onnx").write_bytes(b"half")
        raise ValueError("proof failed")
    assert open_bundle(bundle.path) == bundle
    assert [p.name for p in bundle.path.parent.iterdir()] == ["tiny.pose"]


def test_ctrl_c_between_the_two_renames_keeps_the_older_bundle(bundle: Bundle, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if path == bundle.path:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle.path, tiny_model)
    assert open_bundle(bundle.path) == bundle
    assert [p.name for p in bundle.path.parent.iterdir()] == ["tiny.pose"]


def test_a_full_disk_is_told_of_the_file_that_has_no_room_and_not_of_the_one_that_was_copied(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"^model\.pose/copy: No space left"), bundle_directory(tmp_path / "tiny.pose"):
        raise OSError(errno.ENOSPC, "No space left on device", "scratch/original", None, "model.pose/copy")  # as shutil.copyfile does


def test_a_second_write_replaces_the_whole_bundle(bundle: Bundle, tiny_model: Any) -> None:
    (bundle.path / "leftover").touch()
    assert write_bundle(bundle.path, tiny_model).manifest == bundle.manifest
    assert not (bundle.path / "leftover").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, tiny_model: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a bundle cannot be written there"):
        write_bundle(tmp_path / "file" / "tiny.pose", tiny_model)


def test_a_process_killed_while_writing_leaves_no_bundle(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nfrom edgepose.engines.bundle import bundle_directory\n"
        "with bundle_directory(pathlib.Path(sys.argv[1])) as d:\n"
        "    (d / 'model.onnx').write_bytes(b'half')\n    print('writing', flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "tiny.pose")], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"writing\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "tiny.pose").exists()
    with pytest.raises(ConfigError):
        open_bundle(tmp_path / "tiny.pose")
