"""`Bundle`: a directory `NAME.pose/` with `pose.json` and the model files it vouches for.

A bundle is written into a temporary directory beside its place and renamed at the end, so a bundle that exists is complete. `pose.json`
carries the sha256 of every file and, last, of itself: a torn copy, an edited contract and a swapped model are all recognised on opening.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from edgepose.engines.contract import ModelContract, Positive
from edgepose.engines.errors import BundleCorrupt, BundleStale, ConfigError, EdgePoseError, SinkError
from edgepose.engines.record import Record, read_json
from edgepose.engines.target import Target, target_named

SCHEMA_VERSION: Literal[1] = 1
SUFFIX = ".pose"
MANIFEST = "pose.json"


class FileRecord(Record):
    """A file of the bundle, by its sha256 (hexadecimal) and size in bytes."""

    sha256: str
    bytes: int


class SourceRecord(Record):
    """Where the network came from: architecture or model file, and the sha256 of the weights."""

    network: str
    weights: str
    sha256: str


class TensorParity(Record):
    """How far one tensor of a hop lies from the hop before; `tolerance` bounds the relative RMSE."""

    tensor: str
    max_abs: float
    relative_rmse: float
    cosine: float
    tolerance: float


class PoseParity(Record):
    """Agreement of decoded poses: OKS over all persons of the hop before (a missed person counts 0), and persons it did not have.

    `tolerance` is the least allowed `oks_min` or `oks_mean`, as `bounds` says.
    """

    persons: int
    oks_min: float
    oks_mean: float
    missed: int
    extra: int
    tolerance: float
    bounds: Literal["min", "mean"]


class HopParity(Record):
    """One conversion compared with the one before it, on `pictures` real pictures or, where `noise`, on structured noise."""

    hop: str
    pictures: int
    noise: bool
    tensors: tuple[TensorParity, ...]
    poses: PoseParity | None


class CalibrationRecord(Record):
    """Where INT8 scales came from: `fingerprint` is the sha256 of the fitted pictures; `floating` names layers that are not in INT8.

    `int8_share` is the part of all multiplications in INT8. The whole story is in the bundle's `calibration.json`.
    """

    source: str
    pictures: Positive
    fingerprint: str
    calibrator: str
    floating: tuple[str, ...]
    int8_share: float


class AccuracyRecord(Record):
    """What the bundle's model loses against the same network in FP32 OpenVINO, as `executed` on the machine of the export.

    `oks_mean` is over the `persons` that FP32 finds, a missed one counting 0. `ap` and `ap_fp32` are COCO keypoint AP where pictures
    were labelled.
    """

    pictures: Positive
    persons: int
    oks_mean: float
    missed: int
    extra: int
    ap: float | None
    ap_fp32: float | None
    gate: str
    executed: str


class Manifest(Record):
    """The content of `pose.json`, less its own digest."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    target: str
    contract: ModelContract
    batch: Positive | Literal["dynamic"]
    model: str
    files: dict[str, FileRecord]
    source: SourceRecord
    tools: dict[str, str]
    opset: Positive | None = None
    parity: tuple[HopParity, ...] = ()
    calibration: CalibrationRecord | None = None
    accuracy: AccuracyRecord | None = None

    @model_validator(mode="after")
    def _names_its_own_files(self) -> Manifest:
        if self.model not in self.files:
            raise ValueError(f"model {self.model!r} is none of its files")
        if strangers := [name for name in self.files if Path(name).name != name or name in (".", "..")]:
            raise ValueError(f"{strangers[0]!r} is no name of a file in the bundle")
        return self


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: every file was there, whole and unchanged, when `open_bundle` returned it."""

    path: Path
    manifest: Manifest

    @property
    def contract(self) -> ModelContract:
        return self.manifest.contract

    @property
    def target(self) -> Target:
        return target_named(self.manifest.target)

    @property
    def model_path(self) -> Path:
        return self.path / self.manifest.model


def open_bundle(path: Path) -> Bundle:
    """Reads and verifies a bundle.

    Raises ConfigError where there is none, BundleCorrupt where it is torn, half-written or edited, BundleStale where a newer
    edgepose wrote it.
    """
    try:
        is_folder, is_complete = path.is_dir(), (path / MANIFEST).is_file()
    except OSError as error:  # a folder above it that is somebody else's, say
        raise ConfigError(f"{path}: {error.strerror}: wanted a bundle that who runs this may read") from error
    if not is_folder:
        raise ConfigError(f"{path}: not a bundle (wanted a directory NAME{SUFFIX} made by pose-export)")
    if not is_complete:
        raise BundleCorrupt(f"{path}: no {MANIFEST}, so it was copied or written only in part: copy it again or export it again")
    data = read_json(path / MANIFEST, lambda found: BundleCorrupt(f"{found}: copy it again or export it again"))
    manifest = _manifest_from(data, path)
    try:
        for name, record in manifest.files.items():
            _verify(path / name, record)
    except OSError as error:
        raise BundleCorrupt(f"{error.filename or path}: {error.strerror or error}: make it readable for who runs it") from error
    return Bundle(path, manifest)


def record_of(path: Path) -> FileRecord:
    """Size and sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return FileRecord(sha256=digest.hexdigest(), bytes=path.stat().st_size)


@contextmanager
def bundle_directory(path: Path) -> Iterator[Path]:
    """An empty directory to write a bundle's model files into.

    When the block ends, `write_manifest` having been called, the directory takes the place of `path` (an older bundle there is
    replaced as a whole); when the block raises, nothing is left. Raises SinkError where the place cannot be written.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: the name of a bundle ends in {SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", suffix=".part", dir=path.parent, ignore_cleanup_errors=True) as scratch:
            fresh = Path(scratch) / path.name
            fresh.mkdir()
            yield fresh
            _replace(fresh, path, Path(scratch) / "replaced")
    except OSError as error:
        place = error.filename2 or error.filename or path  # the second one is where something was copied to
        raise SinkError(f"{place}: {error.strerror or error}: a bundle cannot be written there") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes `pose.json`, sealed with its own digest, and makes sure that the bundle's files have reached the disk."""
    content = manifest.model_dump(mode="json")
    text = json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n"
    part = directory / f"{MANIFEST}.part"
    part.write_text(text, encoding="utf-8")
    for file in (*(directory / name for name in manifest.files), part):
        _flush(file)
    os.replace(part, directory / MANIFEST)


def _manifest_from(data: Any, path: Path) -> Manifest:
    if not isinstance(data, dict):
        raise BundleCorrupt(f"{path / MANIFEST}: not a JSON object: export the bundle again")
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleStale(f"{path}: written with schema {version}, this edgepose reads up to {SCHEMA_VERSION}: install a newer edgepose")
    content = {key: value for key, value in data.items() if key != "digest"}
    if data.get("digest") != _digest(content):
        raise BundleCorrupt(f"{path / MANIFEST}: edited or torn (its digest does not match): export the bundle again")
    try:
        return Manifest.parse(content, str(path / MANIFEST))
    except EdgePoseError as error:
        raise BundleCorrupt(f"{error}: export the bundle again") from error


def _verify(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        raise BundleCorrupt(f"{path}: missing from the bundle: copy it again or export it again")
    if (size := path.stat().st_size) != record.bytes:
        raise BundleCorrupt(f"{path}: {size} bytes, wanted {record.bytes}: torn; copy it again or export it again")
    if record_of(path).sha256 != record.sha256:
        raise BundleCorrupt(f"{path}: changed since it was exported (sha256 differs): copy it again or export it again")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _replace(fresh: Path, path: Path, replaced: Path) -> None:
    """Renames `fresh` to `path`; an older bundle steps aside first and comes back if the rename fails."""
    if not (fresh / MANIFEST).is_file():
        raise RuntimeError("a bundle was closed without a manifest")
    try:
        if path.is_dir():
            path.rename(replaced)
        fresh.rename(path)
    except BaseException:  # Ctrl-C may fall between the two
        if replaced.is_dir() and not path.exists():
            replaced.rename(path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
